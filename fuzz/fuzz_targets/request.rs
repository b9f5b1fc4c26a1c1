//! What viewers ask for: an address's query and headers. The first line is the query, each further one a header. A
//! cursor that is taken is written as one that is read as the same.

#![no_main]

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use libfuzzer_sys::fuzz_target;
use runcast_auth::{Ticket, Token};
use runcast_protocol::{Cursor, RunId};
use runcast_runtime::{cors::Cors, traceparent};
use runcast_sse_fanout::compression::Encodings;
use runcast_sse_fanout::request::{Begin, EventsRequest};

const NAMES: [&str; 9] = [
    "last-event-id",
    "accept-encoding",
    "authorization",
    "cookie",
    "origin",
    "sec-fetch-site",
    "traceparent",
    "x-forwarded-for",
    "forwarded",
];

fuzz_target!(|bytes: &[u8]| {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let query = String::from_utf8_lossy(lines.next().unwrap_or_default());
    let mut headers = HeaderMap::new();
    for line in lines {
        let (Some(name), Ok(value)) = (
            line.first().and_then(|at| NAMES.get(usize::from(*at))),
            HeaderValue::from_bytes(line.get(1..).unwrap_or_default()),
        ) else {
            continue;
        };
        headers.append(HeaderName::from_static(name), value);
    }
    let run = RunId::new("r").expect("a run");
    if let Ok(request) = EventsRequest::parse(run, &query, &headers)
        && let Begin::After(cursor) = request.begin
    {
        let text = cursor.to_string();
        assert_eq!(text.parse::<Cursor>().expect("what was taken is a cursor"), cursor);
    }
    for method in [Method::GET, Method::POST] {
        if let Some(token) = Token::of(&method, &headers, "session") {
            assert!(!format!("{token:?}").contains("eyJ"), "a token that prints itself");
        }
    }
    let encodings: Encodings = "zstd,br,gzip".parse().expect("encodings");
    let _ = encodings.choose(&headers);
    let _ = Ticket::parse(&query);
    let _ = traceparent::parse(&query);
    if let Ok(cors) = Cors::parse(&query)
        && let Some(origin) = headers.get("origin")
    {
        let _ = cors.admits(origin);
    }
});
