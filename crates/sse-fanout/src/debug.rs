//! `GET /debug/viewers` on the admin port.

use http::{Response, StatusCode};
use runcast_runtime::http::{Body, json, problem};

use crate::sight::Sights;

/// Viewers that are shown, unless asked otherwise, and at most.
const LIMITS: (usize, usize) = (20, 1000);

/// Who is furthest behind, as [`Report`](crate::sight::Report); `limit=` says how many of them.
pub fn viewers(sights: &Sights, query: &str) -> Response<Body> {
    let mut limit = LIMITS.0;
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match (&*name, value.parse()) {
            ("limit", Ok(number)) if (1..=LIMITS.1).contains(&number) => limit = number,
            ("limit", _) => {
                let detail = format!("limit: expected 1 to {}", LIMITS.1);
                return problem(StatusCode::BAD_REQUEST, detail);
            }
            _ => return problem(StatusCode::BAD_REQUEST, "there is no such parameter; there is limit"),
        }
    }
    json(StatusCode::OK, &sights.report(limit))
}
