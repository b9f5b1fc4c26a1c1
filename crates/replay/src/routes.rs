//! Paths and what they answer.

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use runcast_protocol::RunId;
use runcast_runtime::cors::Cors;
use runcast_runtime::http::{Body, empty, problem};

use crate::archive;
use crate::config::HistoryConfig;
use crate::context::Context;
use crate::error::Error;
use crate::history;
use crate::readmodel;

/// What answers requests.
#[derive(Debug, Clone)]
pub struct Routes {
    /// What all parts share.
    pub context: Context,
    /// Which origins' pages may read.
    pub cors: Cors,
    /// Limits of what one request may ask for.
    pub history: HistoryConfig,
}

impl Routes {
    /// Answers a request.
    pub async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let headers = request.headers().clone();
        let mut response = self.dispatch(request).await.unwrap_or_else(|error| error.answer());
        self.cors.allow(&headers, &mut response);
        response
    }

    async fn dispatch(&self, request: Request<Incoming>) -> Result<Response<Body>, Error> {
        let (path, query, headers) =
            (request.uri().path(), request.uri().query().unwrap_or_default(), request.headers());
        let segments: Vec<&str> = path.split('/').skip(1).collect();
        // Each part of the service answers below its own name.
        match (request.method(), segments.as_slice()) {
            (&Method::GET | &Method::HEAD, ["v1", "runs", run, "messages"]) => {
                history::messages(&self.context, &self.history, &run_id(run)?, query, headers).await
            }
            (&Method::GET, ["v1", "runs", run, "replay"]) => {
                history::replay(&self.context, &run_id(run)?, query, headers).await
            }
            (&Method::OPTIONS, _) => {
                let mut response = Response::new(empty());
                *response.status_mut() = StatusCode::NO_CONTENT;
                Ok(response)
            }
            (&Method::GET | &Method::HEAD, ["v1", "runs"]) => readmodel::list(&self.context, query),
            (&Method::GET | &Method::HEAD, ["v1", "runs", run]) => {
                readmodel::show(&self.context, &run_id(run)?, query, headers).await
            }
            (&Method::POST, ["v1", "runs", run, "rebuild"]) => {
                readmodel::rebuild(&self.context, &run_id(run)?, query).await
            }
            (&Method::GET | &Method::HEAD, ["v1", "runs", run, "dead"]) => {
                readmodel::dead_letters(&self.context, &run_id(run)?, query).await
            }
            (&Method::POST, ["v1", "runs", run, "dead", id, "requeue"]) => {
                readmodel::requeue(&self.context, &run_id(run)?, id, query).await
            }
            (&Method::GET | &Method::HEAD, ["v1", "runs", run, "export"]) => {
                archive::export(&self.context, &run_id(run)?, request.uri().query()).await
            }
            (&Method::GET | &Method::HEAD, ["v1", "archive"]) => {
                archive::list(&self.context, request.uri().query()).await
            }
            (&Method::GET | &Method::HEAD, ["v1", "archive", run]) => {
                archive::show(&self.context, &run_id(run)?).await
            }
            (&Method::DELETE, ["v1", "archive", run]) => archive::remove(&self.context, &run_id(run)?).await,
            (&Method::POST, ["v1", "archive", run, "verify"]) => {
                archive::verify(&self.context, &run_id(run)?).await
            }
            _ => Ok(problem(StatusCode::NOT_FOUND, "there is nothing here; see /v1/runs")),
        }
    }
}

fn run_id(text: &str) -> Result<RunId, Error> {
    RunId::new(text).map_err(|error| Error::bad("run_id", error))
}
