//! Any bytes as data are one event, and nothing of them gets out of it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use runcast_protocol::sse::{self, Event, Parser};
use runcast_protocol::{EventName, MessageType};

fuzz_target!(|data: &[u8]| {
    let mut frames = Vec::new();
    sse::write_frame(&mut frames, "var-1:1", EventName::Message(MessageType::Output), data);
    frames.extend_from_slice(sse::HEARTBEAT);
    sse::write_frame(&mut frames, "var-1:2", EventName::End, b"{}");
    assert!(!frames.contains(&b'\r'));

    let event = |id: &str, event: &str, data: String| Event { id: id.into(), event: event.into(), data };
    let text = String::from_utf8_lossy(data).replace("\r\n", "\n").replace('\r', "\n");
    let expected = [event("var-1:1", "output", text), event("var-1:2", "end", "{}".into())];
    assert_eq!(Parser::default().push(&frames), expected);
    let mut parser = Parser::default();
    let bytewise: Vec<_> = frames.chunks(1).flat_map(|byte| parser.push(byte)).collect();
    assert_eq!(bytewise, expected);
});
