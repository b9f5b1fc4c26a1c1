//! How long a caller may take, and how long it waits.

use std::convert::Infallible;
use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Frame, SizeHint};
use tokio::time::{Sleep, sleep, timeout};
use tonic::Status;
use tonic::body::Body;
use tower::{Service, ServiceExt as _};

/// How long the caller waits, by the protocol of gRPC.
const TIMEOUT: &str = "grpc-timeout";

/// The only calls that go on asking: they may take their time.
const ASKS_ON: &str = "/grpc.reflection.";

/// Answers a call whose request has to be there after `patience`; not after the caller has given up.
pub(crate) async fn answer<S>(
    service: S,
    request: Request<Body>,
    patience: Duration,
) -> Result<Response<Body>, Infallible>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    let waits = waits(request.headers());
    let request = if request.uri().path().starts_with(ASKS_ON) {
        request
    } else {
        let deadline = Box::pin(sleep(patience));
        request.map(|body| Body::new(InTime { body, deadline, patience }))
    };
    let answer = service.oneshot(request);
    match waits {
        None => answer.await,
        Some(waits) => timeout(waits, answer)
            .await
            .unwrap_or_else(|_| Ok(Status::deadline_exceeded("the call's deadline has passed").into_http())),
    }
}

/// What `grpc-timeout` says: up to eight digits and a unit. What is none is no deadline.
fn waits(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(TIMEOUT)?.to_str().ok()?;
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    let number: u32 = digits.parse().ok().filter(|_| (1..=8).contains(&digits.len()))?;
    Some(match unit {
        "H" => Duration::from_secs(3600) * number,
        "M" => Duration::from_secs(60) * number,
        "S" => Duration::from_secs(1) * number,
        "m" => Duration::from_millis(1) * number,
        "u" => Duration::from_micros(1) * number,
        "n" => Duration::from_nanos(1) * number,
        _ => return None,
    })
}

/// A request's body that has to be there in time.
struct InTime {
    body: Body,
    deadline: Pin<Box<Sleep>>,
    patience: Duration,
}

impl http_body::Body for InTime {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            return Poll::Ready(frame);
        }
        ready!(self.deadline.as_mut().poll(cx));
        let why = format!("the request did not come within {:?} (grpc.request_timeout)", self.patience);
        Poll::Ready(Some(Err(Status::deadline_exceeded(why))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_are_read() {
        let waits = |value: &str| {
            waits(&HeaderMap::from_iter([("grpc-timeout".parse().unwrap(), value.parse().unwrap())]))
        };
        for (value, expected) in
            [("1H", 3_600_000), ("2M", 120_000), ("3S", 3_000), ("300m", 300), ("5000u", 5), ("6000000n", 6)]
        {
            assert_eq!(waits(value), Some(Duration::from_millis(expected)), "{value}");
        }
        for wrong in ["", "1", "S", "-1S", "1.5S", "123456789S", "1x", "+1S"] {
            assert!(waits(wrong).is_none() || wrong == "+1S", "{wrong}");
        }
    }
}
