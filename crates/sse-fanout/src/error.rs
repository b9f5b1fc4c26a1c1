//! What a client did wrong, or may not do.

use std::fmt::Display;
use std::time::Duration;

use http::{Response, StatusCode};
use runcast_auth::{Denied, refuse};
use runcast_runtime::http::{Body, problem};
use runcast_runtime::rates::{retry_after, whole_seconds};

/// When to look again whether one of the streams that are open has ended: nobody can know.
const STREAM_ENDS: Duration = Duration::from_secs(5);

/// A request that cannot be served, and what the client should do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadRequest(String);

impl BadRequest {
    /// A parameter or header with a wrong value.
    pub fn new(name: &str, why: impl Display) -> Self {
        Self(format!("{name}: {why}"))
    }

    /// A parameter that does not exist.
    pub fn unknown(name: &str) -> Self {
        let shown: String = name.chars().take(40).collect();
        Self(format!(
            "{shown}: there is no such parameter; there are channels, variations, from, after and merge"
        ))
    }
}

/// Why a request is not answered with what it asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is wrong.
    #[error(transparent)]
    Bad(#[from] BadRequest),
    /// Its body has more bytes than this.
    #[error("the body is above {0} bytes")]
    TooLarge(usize),
    /// Its body did not come within this.
    #[error("the body did not come within {0:?}")]
    Slow(Duration),
    /// Too many of the kind; to be asked again after so long.
    #[error("too many requests with this token; come back in {} s", whole_seconds(*.0))]
    TooMany(Duration),
    /// Whoever asks has as many streams open as it may.
    #[error(
        "your tokens have {0} streams open here, and may not have more; close some, or have \
             auth_limits.max_streams_per_holder raised"
    )]
    TooManyStreams(usize),
    /// Whoever asks may not.
    #[error(transparent)]
    Denied(#[from] Denied),
}

impl Refusal {
    /// The answer.
    pub fn answer(self) -> Response<Body> {
        match self {
            Self::Bad(bad) => problem(StatusCode::BAD_REQUEST, bad),
            Self::TooLarge(_) => problem(StatusCode::PAYLOAD_TOO_LARGE, &self),
            Self::Slow(_) => problem(StatusCode::REQUEST_TIMEOUT, &self),
            Self::TooMany(wait) => {
                let mut response = problem(StatusCode::TOO_MANY_REQUESTS, &self);
                retry_after(response.headers_mut(), wait);
                response
            }
            Self::TooManyStreams(_) => {
                let mut response = problem(StatusCode::TOO_MANY_REQUESTS, &self);
                retry_after(response.headers_mut(), STREAM_ENDS);
                response
            }
            Self::Denied(denied) => refuse(denied),
        }
    }
}
