//! Revoking tokens, as `TokenService` offers it.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use runcast_bus::Bus;
use runcast_protocol::grpc::control as proto;
use runcast_protocol::grpc::control::revoke_token_request::Expiration;
use runcast_protocol::grpc::control::token_service_server::TokenService;
use tonic::{Request, Response, Status};

use crate::callers::Callers;
use crate::convert;
use crate::error::Refusal;

/// Longest name of a token, in bytes: of a longer one nobody is let in.
const MAX_NAME: usize = 256;
/// How far ahead the end of a token may lie.
const MAX_AHEAD: SignedDuration = SignedDuration::from_hours(366 * 24);
/// A revocation is kept so much longer: the services that ask for it have clocks, and a leeway, of their own.
const MARGIN: Duration = Duration::from_secs(300);

/// `runcast.control.v1.TokenService`. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Tokens {
    bus: Bus,
    callers: Callers,
}

impl Tokens {
    /// For these callers.
    pub fn new(bus: Bus, callers: Callers) -> Self {
        Self { bus, callers }
    }

    async fn revoke(&self, request: proto::RevokeTokenRequest) -> Result<(), Refusal> {
        let (id, left) = read(request, Timestamp::now())?;
        Ok(self.bus.revoke_token(&id, left.saturating_add(MARGIN)).await?)
    }
}

/// A token's name, and how long it still lives.
fn read(request: proto::RevokeTokenRequest, now: Timestamp) -> Result<(String, Duration), Refusal> {
    let proto::RevokeTokenRequest { token_id, expiration } = request;
    if token_id.is_empty() || token_id.len() > MAX_NAME {
        return Err(Refusal::invalid("token_id", format!("expected 1 to {MAX_NAME} bytes")));
    }
    let (field, left) = match expiration {
        None => return Err(Refusal::invalid("expire_time", "say when the token expires, here or by ttl")),
        Some(Expiration::Ttl(ttl)) => ("ttl", convert::duration(ttl)),
        Some(Expiration::ExpireTime(time)) => {
            ("expire_time", convert::time(time).map(|time| time.duration_since(now)))
        }
    };
    let left = left.filter(|left| *left <= MAX_AHEAD).and_then(|left| Duration::try_from(left).ok());
    let left = left.filter(|left| !left.is_zero());
    let left = left.ok_or_else(|| Refusal::invalid(field, "expected to lie ahead, by 366 days at most"))?;
    Ok((token_id, left))
}

#[tonic::async_trait]
impl TokenService for Tokens {
    async fn revoke_token(
        &self,
        request: Request<proto::RevokeTokenRequest>,
    ) -> Result<Response<proto::RevokeTokenResponse>, Status> {
        let caller = self.callers.admit(&request)?;
        let request = request.into_inner();
        let id = request.token_id.clone();
        let outcome = self.revoke(request).await;
        caller.audit("RevokeToken", "", &id, &outcome);
        outcome?;
        Ok(Response::new(proto::RevokeTokenResponse {}))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revocation_says_of_which_token_and_for_how_long() {
        let now: Timestamp = "2026-01-10T10:30:00Z".parse().unwrap();
        let ask = |id: &str, expiration| {
            read(proto::RevokeTokenRequest { token_id: id.into(), expiration }, now)
                .map(|(_, left)| left.as_secs())
                .map_err(|refusal| refusal.to_string())
        };
        let ttl = |seconds| Some(Expiration::Ttl(prost_types::Duration { seconds, nanos: 0 }));
        let time = |seconds| {
            let seconds = now.as_second() + seconds;
            Some(Expiration::ExpireTime(prost_types::Timestamp { seconds, nanos: 0 }))
        };
        assert_eq!((ask("t", ttl(60)), ask("t", time(60))), (Ok(60), Ok(60)));
        for (id, expiration, field) in [
            ("", ttl(60), "token_id"),
            (&*"x".repeat(257), ttl(60), "token_id"),
            ("t", None, "expire_time"),
            ("t", ttl(0), "ttl"),
            ("t", ttl(-1), "ttl"),
            ("t", time(-1), "expire_time"),
            ("t", time(367 * 86400), "expire_time"),
        ] {
            assert!(ask(id, expiration).unwrap_err().contains(field), "{id} {expiration:?}");
        }
    }
}
