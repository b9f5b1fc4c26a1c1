//! The local HTTP API: for the agent in the same pod.

mod ack;
mod answer;
mod commands;
mod config;
mod finish;
mod input;
mod letters;
mod messages;
mod output;
pub(crate) mod serving;
mod status;
mod visitor;

use std::sync::Arc;
use std::time::Duration;

use http::header::{ALLOW, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use runcast_runtime::Shutdown;
use runcast_runtime::http::{Body, problem};
use tokio::time::timeout;

use self::answer::Refusal;
use crate::commands::desk::Desk;
use crate::lease::Lease;
use crate::phase::Phases;
use crate::publisher::Publisher;

/// What there is.
const PATHS: &str = "POST /v1/output, POST /v1/messages, POST /v1/letters, POST /v1/finish, \
     GET /v1/commands, POST /v1/commands/{id}/ack, GET /v1/config, GET /v1/status";

/// How long an answer waits for what Redis knows.
const PATIENCE: Duration = Duration::from_secs(10);

/// What answering takes. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    pub(crate) publisher: Publisher,
    pub(crate) desk: Arc<Desk>,
    pub(crate) lease: Lease,
    pub(crate) phases: Arc<Phases>,
    pub(crate) shutdown: Shutdown,
    /// Most bytes of one message, as it comes.
    pub(crate) max_message: usize,
    /// Whether the agent's process tells how it ended (`exec`), and the agent need not.
    pub(crate) ends_by_itself: bool,
}

impl Api {
    /// Answers one request.
    pub(crate) async fn answer(self, request: Request<Incoming>) -> Response<Body> {
        if let Some(why) = visitor::refused(request.headers(), request.uri()) {
            return problem(StatusCode::FORBIDDEN, why);
        }
        let path = request.uri().path().to_owned();
        let acked = path.strip_prefix("/v1/commands/").and_then(|rest| rest.strip_suffix("/ack"));
        let allowed = match path.as_str() {
            "/v1/output" | "/v1/messages" | "/v1/letters" | "/v1/finish" => Method::POST,
            "/v1/status" | "/v1/commands" | "/v1/config" => Method::GET,
            _ if acked.is_some() => Method::POST,
            path => {
                return problem(
                    StatusCode::NOT_FOUND,
                    format_args!("{path:?} does not exist; there are {PATHS}"),
                );
            }
        };
        if request.method() != allowed {
            let mut response =
                problem(StatusCode::METHOD_NOT_ALLOWED, format_args!("use {allowed}; there are {PATHS}"));
            let allow = if allowed == Method::GET { "GET" } else { "POST" };
            response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
            return response;
        }
        match (path.as_str(), acked) {
            (_, Some(command)) => ack::answer(&self, command, request).await,
            ("/v1/output", _) => output::answer(&self, request).await,
            ("/v1/messages", _) => messages::answer(&self, request).await,
            ("/v1/letters", _) => letters::answer(&self, request).await,
            ("/v1/finish", _) => finish::answer(&self, request).await,
            ("/v1/commands", _) => commands::answer(&self, request).await,
            ("/v1/config", _) => config::answer(&self).await,
            _ => status::answer(&self),
        }
    }

    /// Waits until it is known which commands there are.
    async fn until_known(&self) -> Result<(), Refusal> {
        let known = timeout(PATIENCE, self.desk.until_known()).await;
        known.map_err(|_| Refusal {
            status: StatusCode::SERVICE_UNAVAILABLE,
            detail: "redis was not reached yet, so nothing is known of commands; ask again".into(),
        })
    }
}
