//! The live page: plain HTML, CSS and a JS module, compiled in.

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS,
};
use http::{Response, StatusCode};
use runcast_runtime::http::{Body, full};

/// Everything comes from ourselves; nothing inline runs, and no other site may frame the page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
    base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// The page, for any run: it takes the run's id from its address.
#[derive(Debug, Clone)]
pub struct Page {
    html: Bytes,
    policy: HeaderValue,
}

impl Page {
    /// A page whose commands go to the control-plane at `control_url`, an origin; none if it is empty.
    pub fn new(control_url: &str) -> Self {
        let html = include_str!("../page/index.html");
        let empty = "<meta name=\"runcast-control\" content=\"\">";
        debug_assert!(html.contains(empty), "the page has a place for it");
        let named = format!("<meta name=\"runcast-control\" content=\"{control_url}\">");
        let connect = format!("connect-src 'self' {control_url}");
        let policy = POLICY.replace("connect-src 'self'", connect.trim_end());
        let policy = HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static(POLICY));
        Self { html: html.replace(empty, &named).into(), policy }
    }

    /// The answer.
    pub fn answer(&self) -> Response<Body> {
        let mut response = answer("text/html; charset=utf-8", self.html.clone());
        response.headers_mut().insert(CONTENT_SECURITY_POLICY, self.policy.clone());
        response
    }
}

macro_rules! scripts {
    ($($name:literal),* $(,)?) => {
        /// The page's modules by name.
        const SCRIPTS: &[(&str, &str)] = &[$(($name, include_str!(concat!("../page/", $name)))),*];
    };
}

scripts!(
    "app.js",
    "column.js",
    "commands.js",
    "follow.js",
    "logs.js",
    "positions.js",
    "steer.js",
    "stream.js",
    "text.js",
);

/// One of the page's files.
pub fn file(name: &str) -> Option<Response<Body>> {
    match name {
        "style.css" => Some(answer("text/css; charset=utf-8", include_str!("../page/style.css"))),
        "favicon.svg" => Some(answer("image/svg+xml", include_str!("../page/favicon.svg"))),
        _ => {
            let (_, text) = SCRIPTS.iter().find(|(script, _)| *script == name)?;
            Some(answer("text/javascript; charset=utf-8", *text))
        }
    }
}

fn answer(content_type: &'static str, text: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(full(text));
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
