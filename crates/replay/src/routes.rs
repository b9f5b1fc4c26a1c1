//! Paths and what they answer.

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use runcast_auth::{Access, Gate, Operation, watched};
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
    /// Lets in who has a token.
    pub gate: Gate,
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
        if request.method() == Method::OPTIONS {
            let mut response = Response::new(empty());
            *response.status_mut() = StatusCode::NO_CONTENT;
            return Ok(response);
        }
        let access = self.gate.admit(request.method(), request.headers()).await?;
        let response = self.allowed(&request, &access).await?;
        Ok(watched(response, access))
    }

    /// Answers what the access allows. It is asked by the run's name, before anybody looks for the run.
    async fn allowed(&self, request: &Request<Incoming>, access: &Access) -> Result<Response<Body>, Error> {
        use Operation::{Export, Manage, Replay, View};
        let (path, query, headers) =
            (request.uri().path(), request.uri().query().unwrap_or_default(), request.headers());
        let context = &self.context;
        // For what tells of all that a run said, whichever channel it came through.
        let whole = |operation: Operation, run: &str| {
            let run = run_id(run)?;
            access.may(operation, &run)?;
            access.all_channels()?;
            Ok::<_, Error>(run)
        };
        let read = |run: &str| {
            let run = run_id(run)?;
            access.may(Replay, &run)?;
            Ok::<_, Error>((run, access.narrow(query)?))
        };
        let segments: Vec<&str> = path.split('/').skip(1).collect();
        // Each part of the service answers below its own name.
        match (request.method(), segments.as_slice()) {
            (&Method::GET | &Method::HEAD, ["v1", "runs", run, "messages"]) => {
                let (run, query) = read(run)?;
                history::messages(context, &self.history, &run, &query, headers).await
            }
            (&Method::GET, ["v1", "runs", run, "replay"]) => {
                let (run, query) = read(run)?;
                history::replay(context, &run, &query, headers).await
            }
            (&Method::GET | &Method::HEAD, ["v1", "runs"]) => {
                access.allows(View)?;
                access.all_channels()?;
                readmodel::list(context, query, |run| access.covers(run))
            }
            (&Method::GET | &Method::HEAD, ["v1", "runs", run]) => {
                readmodel::show(context, &whole(View, run)?, query, headers).await
            }
            (&Method::POST, ["v1", "runs", run, "rebuild"]) => {
                readmodel::rebuild(context, &whole(Manage, run)?, query).await
            }
            (&Method::GET | &Method::HEAD, ["v1", "runs", run, "dead"]) => {
                readmodel::dead_letters(context, &whole(Manage, run)?, query).await
            }
            (&Method::POST, ["v1", "runs", run, "dead", id, "requeue"]) => {
                readmodel::requeue(context, &whole(Manage, run)?, id, query).await
            }
            (&Method::GET | &Method::HEAD, ["v1", "runs", run, "export"]) => {
                archive::export(context, &whole(Export, run)?, request.uri().query()).await
            }
            (&Method::GET | &Method::HEAD, ["v1", "archive"]) => {
                access.allows(Manage)?;
                access.all_channels()?;
                archive::list(context, request.uri().query(), |run| access.covers(run)).await
            }
            (&Method::GET | &Method::HEAD, ["v1", "archive", run]) => {
                archive::show(context, &whole(Manage, run)?).await
            }
            (&Method::DELETE, ["v1", "archive", run]) => archive::remove(context, &whole(Manage, run)?).await,
            (&Method::POST, ["v1", "archive", run, "verify"]) => {
                archive::verify(context, &whole(Manage, run)?).await
            }
            _ => Ok(problem(StatusCode::NOT_FOUND, "there is nothing here; see /v1/runs")),
        }
    }
}

fn run_id(text: &str) -> Result<RunId, Error> {
    RunId::new(text).map_err(|error| Error::bad("run_id", error))
}
