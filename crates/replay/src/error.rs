//! What can go wrong while history is served.

use std::fmt::Display;

use http::{Response, StatusCode};
use runcast_auth::Denied;
use runcast_bus::BusError;
use runcast_protocol::RunId;
use runcast_runtime::http::{Body, problem};

use crate::archive::ArchiveError;

/// Why a request is not answered with what it asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A parameter or header with a wrong value; the text names it and says what it should be.
    #[error("{0}")]
    BadRequest(String),
    /// Neither Redis nor the archive knows the run.
    #[error("nothing is known of run {0}")]
    UnknownRun(RunId),
    /// Something else that is not there.
    #[error("{0}")]
    NotFound(String),
    /// The token does not allow it, or there is none.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// Redis cannot be asked now.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The archive cannot be read now, or not any more.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
}

impl Error {
    /// A parameter or header with a wrong value.
    pub fn bad(name: &str, why: impl Display) -> Self {
        Self::BadRequest(format!("{name}: {why}"))
    }

    /// The answer that tells the client. What only operators need goes to the log.
    pub fn answer(&self) -> Response<Body> {
        match self {
            Self::BadRequest(_) => problem(StatusCode::BAD_REQUEST, self),
            Self::UnknownRun(_) | Self::NotFound(_) => problem(StatusCode::NOT_FOUND, self),
            Self::Denied(denied) => runcast_auth::refuse(*denied),
            Self::Bus(error) => {
                tracing::warn!(%error, "redis cannot be asked");
                unavailable("redis cannot be asked now; try again")
            }
            Self::Archive(error) => {
                tracing::warn!(%error, "the archive cannot be read");
                unavailable("the archive cannot be read now; try again")
            }
        }
    }
}

fn unavailable(detail: &str) -> Response<Body> {
    let mut response = problem(StatusCode::SERVICE_UNAVAILABLE, detail);
    response.headers_mut().insert(http::header::RETRY_AFTER, http::HeaderValue::from_static("1"));
    response
}
