//! `GET /v1/config`: the configuration that commands have made, for an agent that comes late.

use http::{Response, StatusCode};
use runcast_runtime::http::{Body, json};
use serde_json::json;

use super::Api;
use super::answer::Refusal;

pub(super) async fn answer(api: &Api) -> Response<Body> {
    if let Err(refusal) = api.until_known().await {
        return Refusal::answer(refusal);
    }
    let inbox = api.desk.inbox();
    let document = inbox.document();
    json(StatusCode::OK, &json!({ "version": document.version(), "config": document.merged() }))
}
