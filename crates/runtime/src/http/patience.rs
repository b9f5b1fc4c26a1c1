//! Streams of an HTTP/2 connection whose client stops taking what it asked for.
//!
//! A socket that is full stops the whole connection, which a write timeout ends. A stream whose flow
//! control window is used up stands alone: nothing is written, and nothing fails. The window is hidden
//! in the HTTP library, but it asks a body for more only once what it was given last has room.

use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use super::Body;
use super::clients::Place;

/// Most bytes that are given at a time: the largest frame that every client takes (RFC 9113 §4.2). So
/// a client that takes a long text slowly is seen to take it.
const PIECE: usize = 16 * 1024;

tokio::task_local! {
    /// The stream that is being polled.
    static GIVEN: Arc<Given>;
}

/// How often a stream's body was asked for more, and gave: odd while what it gave waits for room.
#[derive(Debug, Default)]
struct Given(AtomicU64);

impl Given {
    fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn waits(&self) -> bool {
        !self.count().is_multiple_of(2)
    }

    fn step(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Runs a stream, but ends it, which resets it, once its client has taken nothing for `stall`.
pub(super) async fn patient(stream: impl Future<Output = ()>, stall: Duration) {
    if stall.is_zero() {
        return stream.await;
    }
    let given = Arc::new(Given::default());
    let mut stream = std::pin::pin!(GIVEN.scope(given.clone(), stream));
    // No timer until there is something to wait for.
    let mut timer: Option<(u64, Pin<Box<Sleep>>)> = None;
    std::future::poll_fn(|cx| {
        if stream.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        if !given.waits() {
            timer = None;
            return Poll::Pending;
        }
        let count = given.count();
        let (since, sleep) =
            timer.get_or_insert_with(|| (count, Box::pin(sleep_until(Instant::now() + stall))));
        if *since != count {
            *since = count;
            sleep.as_mut().reset(Instant::now() + stall);
        }
        ready!(sleep.as_mut().poll(cx));
        tracing::debug!("a stream's client takes nothing, it is reset");
        Poll::Ready(())
    })
    .await;
}

/// A body that tells [`patient`] what it gives, in pieces that show progress.
pub(super) fn paced(body: Body) -> Body {
    Paced { body, rest: Bytes::new() }.boxed_unsync()
}

/// A body that keeps its client's place until it is through.
pub(super) fn held(body: Body, place: Option<Place>) -> Body {
    match place {
        Some(place) if place.is_counted() => Held { body, _place: place }.boxed_unsync(),
        _ => body,
    }
}

struct Paced {
    body: Body,
    rest: Bytes,
}

struct Held {
    body: Body,
    _place: Place,
}

type Failure = Box<dyn Error + Send + Sync>;

impl HttpBody for Paced {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        let given = GIVEN.try_with(Clone::clone).ok();
        if let Some(given) = given.as_ref().filter(|given| given.waits()) {
            given.step();
        }
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                end => return Poll::Ready(end),
            }
        }
        let length = self.rest.len().min(PIECE);
        let piece = self.rest.split_to(length);
        if let Some(given) = given {
            given.step();
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.body.size_hint();
        let rest = self.rest.len() as u64;
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + rest);
        }
        hint.set_lower(hint.lower() + rest);
        hint
    }
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
