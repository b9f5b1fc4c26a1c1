//! `POST /v1/finish`: how the agent says that it is done.

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use runcast_protocol::{State, Status};
use runcast_runtime::http::{Body, json};
use serde::Deserialize;

use super::answer::Refusal;
use super::{Api, input, output};

/// Most bytes of a body.
const MAX_BODY: usize = 64 << 10;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Finish {
    #[serde(default = "succeeded")]
    state: State,
    #[serde(default)]
    exit_code: Option<i32>,
    #[serde(default)]
    reason: Option<String>,
}

fn succeeded() -> State {
    State::Succeeded
}

pub(super) async fn answer(api: &Api, request: Request<Incoming>) -> Response<Body> {
    finish(api, request.into_body()).await.unwrap_or_else(Refusal::answer)
}

async fn finish(api: &Api, body: Incoming) -> Result<Response<Body>, Refusal> {
    if api.ends_by_itself {
        let detail = "the sidecar started this agent and tells by itself how it ends: just exit".into();
        return Err(Refusal { status: StatusCode::CONFLICT, detail });
    }
    let text = output::collect(body, MAX_BODY).await?;
    // Saying nothing at all is saying that all went well.
    let text = if text.trim_ascii().is_empty() { b"{}" } else { &text[..] };
    let Finish { state, exit_code, reason } = input::from_json(text)?;
    if matches!(state, State::Pending | State::Running | State::Lost) {
        return Err(Refusal::bad("`state` must be succeeded, failed or cancelled"));
    }
    let wanted = Status { exit_code, reason, ..Status::new(state) };
    // Asking again, after an answer that got lost, is no mistake.
    let finished = api.phases.finish(wanted.clone()).await;
    if finished.state != state {
        let detail = format!("this variation has finished already: {}", finished.state);
        return Err(Refusal { status: StatusCode::CONFLICT, detail });
    }
    Ok(json(StatusCode::OK, &finished))
}
