//! The live page: plain HTML, CSS and a JS module, compiled in.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, REFERRER_POLICY};
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
    /// A page whose commands go to the control-plane at `control_url`, and that reads what is past from the
    /// replay service at `replay_url`: origins; none if they are empty.
    pub fn new(control_url: &str, replay_url: &str) -> Self {
        let mut html = include_str!("../page/index.html").to_owned();
        let mut connect = "connect-src 'self'".to_owned();
        for (name, url) in [("control", control_url), ("replay", replay_url)] {
            let empty = format!("<meta name=\"runcast-{name}\" content=\"\">");
            debug_assert!(html.contains(&empty), "the page has a place for it");
            html = html.replace(&empty, &format!("<meta name=\"runcast-{name}\" content=\"{url}\">"));
            if !url.is_empty() {
                connect = format!("{connect} {url}");
            }
        }
        let policy = POLICY.replace("connect-src 'self'", &connect);
        let policy = HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static(POLICY));
        Self { html: html.into(), policy }
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
    "board.js",
    "column.js",
    "commands.js",
    "follow.js",
    "logs.js",
    "ndjson.js",
    "past.js",
    "positions.js",
    "record.js",
    "steer.js",
    "stream.js",
    "text.js",
    "timeline.js",
    "token.js",
    "track.js",
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
    // An address names a run, and may carry a ticket: no other site is to hear of it.
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_may_reach_what_it_was_told_of_and_nothing_else() {
        let policy = |control, replay| {
            let page = Page::new(control, replay);
            let html = String::from_utf8_lossy(&page.html).into_owned();
            assert!(html.contains(&format!("name=\"runcast-control\" content=\"{control}\"")), "{html}");
            assert!(html.contains(&format!("name=\"runcast-replay\" content=\"{replay}\"")), "{html}");
            page.answer().headers()[CONTENT_SECURITY_POLICY].to_str().unwrap_or_default().to_owned()
        };
        assert!(policy("", "").contains("connect-src 'self';"));
        assert!(policy("http://c:1", "http://r:2").contains("connect-src 'self' http://c:1 http://r:2;"));
        assert!(policy("", "https://r").contains("connect-src 'self' https://r;"));
    }

    #[test]
    fn modules_import_only_what_is_served() {
        for (name, text) in SCRIPTS {
            for line in text.lines().filter(|line| line.starts_with("import ")) {
                let from = line.split('\'').nth(1).unwrap_or_default();
                let served = from.strip_prefix("./").is_some_and(|module| file(module).is_some());
                assert!(served, "{name}: {line}");
            }
        }
    }
}
