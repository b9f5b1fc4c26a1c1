//! Why a call is refused, as gRPC tells it.

use std::time::Duration;

use runcast_bus::BusError;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::run::NotDecided;

/// Domain of the reasons in `google.rpc.ErrorInfo`.
const DOMAIN: &str = "runcast";

/// When to come back while Redis is away.
const REDIS_RETRY: Duration = Duration::from_secs(1);

/// Why a call is refused.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Fields that are not valid, and why.
    #[error("{}", describe(.0))]
    Invalid(Vec<(String, String)>),
    /// There is no such thing.
    #[error("{0} does not exist")]
    NotFound(String),
    /// There is one already.
    #[error("{0}")]
    Exists(String),
    /// It cannot be done as things stand.
    #[error("{what}: {why}")]
    Precondition {
        /// What is in the way.
        what: String,
        /// Why.
        why: String,
    },
    /// The caller makes too many calls.
    #[error("too many calls from this address; come back in {} ms", .0.as_millis())]
    TooMany(Duration),
    /// Whoever holds the token makes too many calls.
    #[error("too many calls with your tokens; come back in {} ms", .0.as_millis())]
    TooOften(Duration),
    /// Its tenant takes too much of Redis; looked at again after so long.
    #[error(
        "the runs of {0} are above their quota (quotas.tenant_messages_per_second, quotas.tenant_memory): end or delete some"
    )]
    OverQuota(String, Duration),
    /// Redis cannot be asked, or does not confirm.
    #[error(transparent)]
    NotDecided(#[from] NotDecided),
}

impl Refusal {
    /// One field that is not valid.
    pub fn invalid(field: impl Into<String>, why: impl std::fmt::Display) -> Self {
        Self::Invalid(vec![(field.into(), why.to_string())])
    }

    /// Something about `what` is in the way.
    pub fn precondition(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Precondition { what: what.into(), why: why.into() }
    }
}

impl From<BusError> for Refusal {
    fn from(error: BusError) -> Self {
        Self::NotDecided(error.into())
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let message = refusal.to_string();
        let mut details = ErrorDetails::new();
        let code = match refusal {
            Refusal::Invalid(fields) => {
                for (field, why) in fields {
                    details.add_bad_request_violation(field, why);
                }
                Code::InvalidArgument
            }
            Refusal::NotFound(name) => {
                details.set_resource_info("", name, "", "");
                Code::NotFound
            }
            Refusal::Exists(_) => {
                reason(&mut details, "ALREADY_EXISTS");
                Code::AlreadyExists
            }
            Refusal::Precondition { what, why } => {
                details.add_precondition_failure_violation("STATE", what, why);
                Code::FailedPrecondition
            }
            Refusal::OverQuota(_, wait) => {
                reason(&mut details, "OVER_QUOTA");
                details.set_retry_info(Some(wait));
                Code::ResourceExhausted
            }
            Refusal::TooMany(wait) | Refusal::TooOften(wait) => {
                reason(&mut details, "RATE_LIMITED");
                details.set_retry_info(Some(wait));
                Code::ResourceExhausted
            }
            Refusal::NotDecided(error) => {
                reason(
                    &mut details,
                    if matches!(error, NotDecided::Redis(_)) { "REDIS_AWAY" } else { "NOT_CONFIRMED" },
                );
                details.set_retry_info(Some(REDIS_RETRY));
                let message = format!("{message}; repeat the call with the same request_id");
                return Self::with_error_details(Code::Unavailable, message, details);
            }
        };
        Self::with_error_details(code, message, details)
    }
}

fn reason(details: &mut ErrorDetails, reason: &str) {
    details.set_error_info(reason, DOMAIN, std::collections::HashMap::new());
}

fn describe(fields: &[(String, String)]) -> String {
    let all: Vec<_> = fields.iter().map(|(field, why)| format!("{field}: {why}")).collect();
    all.join("; ")
}
