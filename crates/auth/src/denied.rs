//! Why somebody is not let in.

use std::time::Duration;

use runcast_runtime::rates::whole_seconds;

/// Why somebody is not let in. What it prints never names a run: whether there is one must not be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// No token came with the request.
    #[error("a token is needed: Authorization: Bearer …")]
    Missing,
    /// What came is no token, or nobody we trust has signed it.
    #[error("the token is not valid")]
    Invalid,
    /// The ticket was used, or is too old.
    #[error("the ticket was used or has expired; get a new one with POST /v1/tickets")]
    Spent,
    /// It is over.
    #[error("the token has expired")]
    Expired,
    /// It was called back.
    #[error("the token was revoked")]
    Revoked,
    /// It is good, but not for this. The same for a run that there is and one that there is not.
    #[error("the token does not allow this")]
    Forbidden,
    /// Whoever holds it comes too often; to come back after so long.
    #[error("too many requests with your tokens; come back in {} s", whole_seconds(*.0))]
    TooOften(Duration),
    /// The keys or the list of revoked tokens cannot be had now.
    #[error("tokens cannot be checked now; try again")]
    Unavailable,
}

impl Denied {
    /// The HTTP status.
    #[must_use]
    pub fn status(self) -> http::StatusCode {
        match self {
            Self::Missing | Self::Invalid | Self::Spent | Self::Expired | Self::Revoked => {
                http::StatusCode::UNAUTHORIZED
            }
            Self::Forbidden => http::StatusCode::FORBIDDEN,
            Self::TooOften(_) => http::StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable => http::StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// As the `reason` of the event that ends a stream.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Invalid => "invalid",
            Self::Spent => "spent",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::Forbidden => "forbidden",
            Self::TooOften(_) => "rate",
            Self::Unavailable => "unavailable",
        }
    }

    /// The data of the event `end` that ends a stream: JSON with the reason.
    #[must_use]
    pub fn end(self) -> String {
        format!("{{\"reason\":\"{}\"}}", self.reason())
    }
}
