//! Paths and what they answer.

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use runcast_protocol::RunId;
use runcast_runtime::cors::Cors;
use runcast_runtime::http::{Body, problem};

use crate::archive;
use crate::config::HistoryConfig;
use crate::context::Context;
use crate::error::Error;

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
        let path = request.uri().path().to_owned();
        let segments: Vec<&str> = path.split('/').skip(1).collect();
        // Each part of the service answers below its own name.
        match (request.method(), segments.as_slice()) {
            (&Method::GET | &Method::HEAD, ["v1", "runs", run, "messages"]) => {
                let run = run_id(run)?;
                Err(Error::UnknownRun(run))
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
