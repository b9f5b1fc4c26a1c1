//! The small pieces the services' HTTP servers share: bodies, answers, the accept loop.

mod clients;
mod connection;
mod http1;
mod http2;
mod listener;
mod patience;
mod proxies;
mod serve;
mod socket;
mod takeover;
mod tls;
mod upgrade;

use std::{error::Error, fmt::Display};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Full, combinators::UnsyncBoxBody};
use hyper::{
    Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS},
};
use serde::Serialize;

pub use self::{
    clients::ClientAddress,
    http2::Http2Options,
    listener::Listener,
    proxies::{ClientHeader, Proxies},
    serve::{ServeOptions, serve},
    takeover::{CanTakeOver, Takeover},
    tls::{Tls, TlsConfig},
    upgrade::{Upgrade, UpgradedIo},
};

/// The body of every answer.
pub type Body = UnsyncBoxBody<Bytes, Box<dyn Error + Send + Sync>>;

/// A body that is all there.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// No body.
#[must_use]
pub fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// Plain text, UTF-8.
pub fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    answer(status, "text/plain; charset=utf-8", full(text))
}

/// JSON. A value that cannot be serialized becomes a 500 and is logged.
pub fn json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(bytes) => answer(status, "application/json", full(bytes)),
        Err(error) => {
            tracing::error!(%error, "cannot serialize an answer");
            problem(StatusCode::INTERNAL_SERVER_ERROR, "the answer cannot be written as JSON")
        }
    }
}

/// Problem details (RFC 9457) of type `about:blank`: the status is the kind of problem, `detail` says
/// to a person what is wrong with this request and how to mend it.
pub fn problem(status: StatusCode, detail: impl Display) -> Response<Body> {
    let body = serde_json::json!({
        "type": "about:blank",
        "title": status.canonical_reason().unwrap_or("Unknown"),
        "status": status.as_u16(),
        "detail": detail.to_string(),
    });
    answer(status, "application/problem+json", full(body.to_string()))
}

/// Server-Sent Events, as they must be sent so that nothing between here and the client holds them back.
pub fn event_stream(body: Body) -> Response<Body> {
    let mut response = answer(StatusCode::OK, "text/event-stream", body);
    let headers = response.headers_mut();
    // `no-transform`: a proxy that compresses would buffer.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

pub(crate) fn answer(status: StatusCode, content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Adds what every answer tells browsers and caches, whoever made it: that what an agent said is no page or
/// script whatever it looks like (<https://fetch.spec.whatwg.org/#x-content-type-options-header>), and that
/// a refusal is not for keeping, since a token or a run may be there the next time.
pub(crate) fn guard(response: &mut Response<Body>) {
    let failed = response.status().is_client_error() || response.status().is_server_error();
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if failed && !headers.contains_key(CACHE_CONTROL) {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
}
