//! What clients ask of replay: the queries of messages, replays and lists, and the headers that count there. The first line is
//! the query, each further one a header. What is taken holds what the configuration allows.

#![no_main]

use http::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;
use runcast_replay::config::HistoryConfig;
use runcast_replay::query::{MessagesQuery, ReplayFrom, ReplayQuery};
use runcast_replay::readmodel::ListRequest;

const NAMES: [&str; 4] = ["last-event-id", "accept", "if-none-match", "range"];
const CONFIG: HistoryConfig = HistoryConfig { page: 100, max_page: 1000, max_scan: 10_000 };

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
    if let Ok(messages) = MessagesQuery::parse(&query, &headers, &CONFIG) {
        assert!(messages.limit.is_none_or(|limit| (1..=CONFIG.max_page).contains(&limit)));
    }
    if let Ok(replay) = ReplayQuery::parse(&query, &headers) {
        assert!(replay.speed.is_none_or(|speed| (0.01..=10_000.0).contains(&speed)));
        if let ReplayFrom::After(cursor) = replay.from {
            assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }
    }
    let _ = ListRequest::parse(&query);
});
