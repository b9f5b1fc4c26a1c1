//! `POST /v1/letters`: the agent writes to others of its run.

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use runcast_protocol::{Json, Letter, MessageType, VariationId};
use runcast_runtime::http::{Body, json};
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::Refusal;
use super::{Api, input, output};
use crate::draft::Draft;
use crate::metadata::Metadata;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    to: Option<VariationId>,
    payload: Value,
}

pub(super) async fn answer(api: &Api, request: Request<Incoming>) -> Response<Body> {
    let metadata = Metadata::from_headers(request.headers());
    write(api, request.into_body(), &metadata).await.unwrap_or_else(Refusal::answer)
}

async fn write(api: &Api, body: Incoming, metadata: &Metadata) -> Result<Response<Body>, Refusal> {
    let text = output::collect(body, api.max_message).await?;
    let Written { to, payload } = input::from_json(&text)?;
    if to.as_ref() == Some(&api.publisher.identity().variation) {
        return Err(Refusal::bad("`to` is this agent itself; leave it out to write to all the others"));
    }
    let letter = Json::of(&Letter { to, payload });
    let receipt = api.publisher.publish(Draft::now(MessageType::Control, letter, metadata.to_json())).await?;
    let (lane, sequence) = (receipt.lane().to_string(), receipt.number().await);
    Ok(json(StatusCode::OK, &json!({ "lane": lane, "sequence": sequence })))
}
