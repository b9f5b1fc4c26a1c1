//! What a WebSocket carries is what Server-Sent Events carry.

#![allow(clippy::unwrap_used, reason = "this is test code")]

use std::time::Duration;

use proptest::prelude::*;
use runcast_protocol::websocket::messages;
use runcast_protocol::{EventName, MessageType, sse};
use serde_json::value::RawValue;

#[derive(serde::Deserialize)]
struct Message<'a> {
    id: String,
    event: String,
    retry: Option<u64>,
    #[serde(borrow)]
    data: &'a RawValue,
}

fn event() -> impl Strategy<Value = EventName> {
    prop::sample::select(vec![
        EventName::Message(MessageType::Output),
        EventName::Message(MessageType::Log),
        EventName::Snapshot,
        EventName::Gap,
        EventName::End,
    ])
}

/// JSON on one line, with whatever text inside.
fn data() -> impl Strategy<Value = String> {
    any::<String>().prop_map(|text| serde_json::json!({ "content": text }).to_string())
}

proptest! {
    #[test]
    fn every_frame_is_one_message_with_the_same_bytes(
        frames in prop::collection::vec(("[a-z0-9:,._-]{0,40}", event(), data(), any::<bool>(), any::<bool>()), 0..20),
    ) {
        let mut bytes = Vec::new();
        for (id, event, data, retries, heartbeat) in &frames {
            if *heartbeat {
                bytes.extend_from_slice(sse::HEARTBEAT);
            }
            if *retries {
                sse::write_retry(&mut bytes, Duration::from_millis(2345));
            }
            sse::write_frame(&mut bytes, id, *event, data.as_bytes());
        }
        let messages: Vec<_> = messages(&bytes).collect();
        prop_assert_eq!(messages.len(), frames.len());
        let mut parser = sse::Parser::default();
        let seen = parser.push(&bytes);
        for ((message, frame), event) in messages.iter().zip(&frames).zip(&seen) {
            let parsed: Message<'_> = serde_json::from_slice(&message.json).unwrap();
            prop_assert_eq!(&parsed.id, &frame.0);
            prop_assert_eq!(&parsed.event, &event.event);
            prop_assert_eq!(parsed.data.get(), &frame.2);
            prop_assert_eq!(parsed.retry, frame.3.then_some(2345));
            prop_assert_eq!(message.is_end, frame.1 == EventName::End);
        }
    }

    #[test]
    fn whatever_comes_ends(bytes in any::<Vec<u8>>()) {
        prop_assert!(messages(&bytes).count() <= bytes.len());
    }
}

#[test]
fn a_message_looks_like_this() {
    let mut bytes = sse::HEARTBEAT.to_vec();
    sse::write_frame(
        &mut bytes,
        "var-1:1234",
        EventName::Message(MessageType::Output),
        br#"{"sequence": 1234}"#,
    );
    let all: Vec<_> = messages(&bytes).map(|message| String::from_utf8(message.json).unwrap()).collect();
    assert_eq!(all, [r#"{"id":"var-1:1234","event":"output","data":{"sequence": 1234}}"#]);
}
