//! `POST /v1/tickets`: a ticket for who has a token, to begin one stream with where no header can be set.

use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use http::header::CACHE_CONTROL;
use http::request::Parts;
use http::{HeaderValue, Response, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use runcast_auth::{Access, Gate, TicketRequest};
use runcast_runtime::http::{Body, json};
use runcast_runtime::rates::{Rate, Rates};

use crate::config::TicketsConfig;
use crate::error::{BadRequest, Refusal};

/// Where it is asked for.
pub const PATH: &str = "/v1/tickets";

/// Largest request, in bytes.
const MAX_BODY: usize = 4 * 1024;
/// How long it may take to come.
const PATIENCE: Duration = Duration::from_secs(5);

/// Gives out tickets. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Tickets {
    gate: Gate,
    life: Duration,
    rates: Rates<u64>,
}

impl Tickets {
    /// For whom the gate lets in, as configured.
    pub fn new(gate: Gate, config: TicketsConfig) -> Self {
        let rates = Rates::new(Rate { per_second: config.per_second.get(), burst: config.burst });
        Self { gate, life: config.life, rates }
    }

    /// Answers with a ticket. What the body says, if there is one, is a [`TicketRequest`] in JSON.
    ///
    /// # Errors
    /// [`Refusal`] if there is no token, or it does not allow what is asked for, or the body is none.
    pub async fn issue<B>(&self, head: &Parts, body: B) -> Result<Response<Body>, Refusal>
    where
        B: http_body::Body<Error: Into<Box<dyn Error + Send + Sync>>>,
    {
        // Who has no token has nothing read of what it sends.
        let access = self.gate.admit(&head.method, &head.headers).await?;
        self.count(&access)?;
        let request = parse(&read(body).await?)?;
        let life = request.life(self.life);
        let ticket = self.gate.ticket(&access, &request, life).await?;
        let answer = serde_json::json!({"ticket": ticket.text(), "expires_in": life.as_secs()});
        let mut response = json(StatusCode::CREATED, &answer);
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Ok(response)
    }

    fn count(&self, access: &Access) -> Result<(), Refusal> {
        let Some(token) = access.fingerprint() else { return Ok(()) };
        self.rates.count(&token).map_err(Refusal::TooMany)
    }
}

async fn read<B>(body: B) -> Result<Bytes, Refusal>
where
    B: http_body::Body<Error: Into<Box<dyn Error + Send + Sync>>>,
{
    let read = tokio::time::timeout(PATIENCE, Limited::new(body, MAX_BODY).collect());
    match read.await.map_err(|_| Refusal::Slow(PATIENCE))? {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Refusal::TooLarge(MAX_BODY)),
        Err(error) => Err(BadRequest::new("body", error).into()),
    }
}

fn parse(body: &[u8]) -> Result<TicketRequest, BadRequest> {
    if body.trim_ascii().is_empty() {
        return Ok(TicketRequest::default());
    }
    serde_json::from_slice(body).map_err(|error| BadRequest::new("body", error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_optional_and_typing_errors_are_told() {
        assert_eq!(parse(b" \n").unwrap(), TicketRequest::default());
        let request = parse(br#"{"runs":["a"],"expires_in":5}"#).unwrap();
        assert_eq!((request.runs, request.expires_in), (Some(["a".to_owned()].into()), Some(5)));
        for wrong in [&b"x"[..], b"[]", br#"{"run":["a"]}"#, br#"{"runs":"a"}"#, br#"{"expires_in":-1}"#] {
            assert!(parse(wrong).unwrap_err().to_string().starts_with("body: "));
        }
    }
}
