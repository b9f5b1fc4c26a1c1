//! The local HTTP API: for the agent in the same pod.

mod answer;
mod finish;
mod input;
mod messages;
mod output;
mod status;

use std::sync::Arc;

use http::header::{ALLOW, HeaderValue, ORIGIN};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use runcast_runtime::Shutdown;
use runcast_runtime::http::{Body, problem};

use crate::phase::Phases;
use crate::publisher::Publisher;

/// What there is.
const PATHS: &str = "POST /v1/output, POST /v1/messages, POST /v1/finish, GET /v1/status";

/// What answering takes. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    pub(crate) publisher: Publisher,
    pub(crate) phases: Arc<Phases>,
    pub(crate) shutdown: Shutdown,
    /// Most bytes of one message, as it comes.
    pub(crate) max_message: usize,
}

impl Api {
    /// Answers one request.
    pub(crate) async fn answer(self, request: Request<Incoming>) -> Response<Body> {
        // Browsers say where a script came from. No page may speak in the agent's name.
        if request.headers().contains_key(ORIGIN) {
            return problem(StatusCode::FORBIDDEN, "this API is for the agent, not for web pages");
        }
        let allowed = match request.uri().path() {
            "/v1/output" | "/v1/messages" | "/v1/finish" => Method::POST,
            "/v1/status" => Method::GET,
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
        let path = request.uri().path().to_owned();
        match path.as_str() {
            "/v1/output" => output::answer(&self, request).await,
            "/v1/messages" => messages::answer(&self, request).await,
            "/v1/finish" => finish::answer(&self, request).await,
            _ => status::answer(&self),
        }
    }
}
