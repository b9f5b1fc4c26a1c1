//! Streams that end when the token does.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode};
use http_body::Frame;
use http_body_util::BodyExt as _;
use runcast_runtime::http::{Body, problem};
use runcast_runtime::rates::retry_after;

use crate::{Access, Denied};

type Ends = Pin<Box<dyn Future<Output = Denied> + Send>>;

struct Watched {
    body: Body,
    ends: Ends,
    is_events: bool,
    over: bool,
}

/// An answer that ends when the access does: a stream of events with an `end` event that tells the reason,
/// others by breaking off, so that nobody takes a part for the whole.
#[must_use]
pub fn watched(response: Response<Body>, access: Access) -> Response<Body> {
    let content_type = response.headers().get(http::header::CONTENT_TYPE);
    let is_events = content_type.is_some_and(|kind| kind == "text/event-stream");
    let ends = Box::pin(access.ends());
    response.map(|body| Watched { body, ends, is_events, over: false }.boxed_unsync())
}

/// The answer to who is not let in.
#[must_use]
pub fn refuse(denied: Denied) -> Response<Body> {
    let mut response = problem(denied.status(), denied);
    let headers = response.headers_mut();
    if denied.status() == StatusCode::UNAUTHORIZED {
        headers.insert(http::header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    match denied {
        Denied::Unavailable => retry_after(headers, Duration::from_secs(1)),
        Denied::TooOften(wait) => retry_after(headers, wait),
        _ => {}
    }
    response
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.over {
            return Poll::Ready(None);
        }
        if let Poll::Ready(denied) = self.ends.as_mut().poll(context) {
            self.over = true;
            let end = format!("event: end\ndata: {}\n\n", denied.end());
            let last = if self.is_events { Ok(Frame::data(end.into())) } else { Err(denied.into()) };
            return Poll::Ready(Some(last));
        }
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.over || self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}
