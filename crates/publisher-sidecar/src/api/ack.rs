//! `POST /v1/commands/{id}/ack`: the agent says what became of a command.

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use runcast_protocol::{Ack, CommandId, Step};
use runcast_runtime::http::{Body, json};
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::Refusal;
use super::{Api, input, output};
use crate::commands::desk::NotSaid;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    step: Step,
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    result: Option<Value>,
}

pub(super) async fn answer(api: &Api, id: &str, request: Request<Incoming>) -> Response<Body> {
    ack(api, id, request.into_body()).await.unwrap_or_else(Refusal::answer)
}

async fn ack(api: &Api, id: &str, body: Incoming) -> Result<Response<Body>, Refusal> {
    let unknown = || Refusal {
        status: StatusCode::NOT_FOUND,
        detail: "there is no such command for this agent".into(),
    };
    let command = CommandId::new(id).map_err(|error| Refusal::bad(error.to_string()))?;
    let text = output::collect(body, api.max_message).await?;
    let Said { step, reason, result } = input::from_json(&text)?;
    if !matches!(step, Step::Accepted | Step::Rejected | Step::Applied | Step::Failed) {
        return Err(Refusal::bad("`step` must be accepted, rejected, applied or failed"));
    }
    // An agent that outlived its sidecar may answer before the new one has read what there is.
    api.until_known().await?;
    if !api.desk.inbox().is_with_agent(&command) {
        return Err(unknown());
    }
    let said = api.desk.say(Ack { command, step, reason, result }).await;
    said.map_err(|not_said| match not_said {
        NotSaid::Unknown => unknown(),
        NotSaid::Conflict(at, reason) => {
            let why = reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
            let detail = format!("the command is {at} already{why}; it cannot be {step} any more");
            Refusal { status: StatusCode::CONFLICT, detail }
        }
        NotSaid::Unpublished(error) => error.into(),
    })?;
    Ok(json(StatusCode::OK, &json!({ "command": id, "step": step })))
}
