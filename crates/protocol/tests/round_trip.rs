//! What is written is what is read: messages, cursors, batches.

use std::time::{Duration, Instant};

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use runcast_protocol::{
    Batch, BatchWriter, Cursor, Json, Message, MessageHead, MessageType, Sequence, VariationId, Writer,
};

mod any;

/// Messages of one lane, numbered one after the other.
fn consecutive_messages() -> impl Strategy<Value = Vec<Message>> {
    let first = 1..=Sequence::MAX.get() - 20;
    (any::message(), first).prop_flat_map(|(one, first)| {
        vec(any::message_of(one.kind), 1..10).prop_map(move |mut messages| {
            for (message, number) in messages.iter_mut().zip(first..) {
                message.sequence = Sequence::new(number).expect("it is valid");
                message.writer = one.writer.clone();
                // The control-plane speaks about any variation, a sidecar about its own.
                if one.writer != Writer::Control {
                    message.variation_id = one.variation_id.clone();
                }
            }
            messages
        })
    })
}

fn batch_of(lines: &[Vec<u8>], compress_above: usize) -> Bytes {
    let mut writer = BatchWriter::default();
    for line in lines {
        writer.push(line);
    }
    writer.finish(compress_above)
}

proptest! {
    #![proptest_config(any::cases(256))]

    #[test]
    fn any_message_survives_its_line(message in any::message()) {
        let line = message.to_line();
        prop_assert!(!line.contains(&b'\n') && !line.contains(&b'\r'));
        let read = Message::parse(&line).unwrap();
        prop_assert_eq!(&read, &message);
        prop_assert_eq!(read.to_line(), line);
    }

    #[test]
    fn any_text_survives_as_the_content_of_output(text in any::text()) {
        let json = Json::string(&text);
        prop_assert_eq!(json.to_text(), Some(text.clone()));
        prop_assert_eq!(Json::parse(json.as_str()).unwrap().to_text(), Some(text));
    }

    #[test]
    fn the_head_of_a_message_agrees_with_the_message(message in any::message()) {
        let line = message.to_line();
        let head = MessageHead::parse(&line).unwrap();
        prop_assert_eq!(head.sequence, message.sequence);
        prop_assert_eq!(head.kind, message.kind);
        prop_assert_eq!(head.variation(), message.variation_id.as_str());
        prop_assert_eq!(head.writer(), message.writer.as_str());
    }

    #[test]
    fn json_is_carried_without_the_space_between_its_tokens_and_means_the_same(text in any::json_text()) {
        let json = Json::parse(&text).unwrap();
        prop_assert!(!json.as_str().contains(['\n', '\r']));
        prop_assert_eq!(Json::parse(json.as_str()).unwrap(), json.clone());
        // Numbers such as 1e400 and lone surrogates are carried although serde_json cannot hold them.
        if let Ok(value) = serde_json::from_str::<serde_json::Value>(&text) {
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(json.as_str()).unwrap(), value);
        }
    }

    #[test]
    fn any_cursor_survives_its_text(cursor in any::cursor()) {
        let text = cursor.to_string();
        prop_assert!(!text.is_empty());
        let read: Cursor = text.parse().unwrap();
        prop_assert!(read.covers(&cursor) && cursor.covers(&read));
        prop_assert_eq!(read.to_string(), text.clone());
        for (lane, position) in cursor.lanes() {
            prop_assert_eq!(read.position(&lane), position);
        }
        let json = serde_json::to_string(&cursor).unwrap();
        prop_assert_eq!(serde_json::from_str::<Cursor>(&json).unwrap().to_string(), text);
    }

    #[test]
    fn a_batch_gives_back_its_lane_its_sequences_and_its_lines(
        messages in consecutive_messages(),
        compress in any::<bool>(),
    ) {
        let lines: Vec<_> = messages.iter().map(Message::to_line).collect();
        let payload = batch_of(&lines, if compress { 0 } else { usize::MAX });
        let batch = Batch::parse(payload).unwrap();
        prop_assert_eq!(&batch.lane, &messages[0].lane());
        prop_assert_eq!(batch.first(), messages[0].sequence);
        prop_assert_eq!(batch.last(), messages[messages.len() - 1].sequence);
        prop_assert_eq!(batch.entries.len(), messages.len());
        for ((entry, message), line) in batch.entries.iter().zip(&messages).zip(&lines) {
            prop_assert_eq!(entry.sequence, message.sequence);
            prop_assert_eq!(&entry.variation, &message.variation_id);
            prop_assert_eq!(&entry.line, line);
        }
    }
}

/// A message of output with `text`, otherwise as plain as can be.
fn output(sequence: u64, text: &str) -> Message {
    let variation_id = VariationId::new("var-1").expect("it is valid");
    Message {
        timestamp: "2026-01-10T10:30:00.123456Z".parse().expect("it is valid"),
        run_id: runcast_protocol::RunId::new("run-abc").expect("it is valid"),
        writer: Writer::Variation(variation_id.clone()),
        variation_id,
        sequence: Sequence::new(sequence).expect("it is valid"),
        kind: MessageType::Output,
        content: Json::string(text),
        metadata: Json::empty_object(),
        extra: Vec::new(),
    }
}

#[test]
fn a_mebibyte_of_hostile_text_survives_message_and_batch() {
    let text = "\r\n\0\u{2028}\u{1b}[0m🚀\"\\".repeat((1 << 20) / 18);
    let message = output(1, &text);
    let line = message.to_line();
    let read = Message::parse(&line).unwrap();
    assert_eq!(read.content.to_text(), Some(text));
    assert_eq!(read, message);
    for compress_above in [0, usize::MAX] {
        let batch = Batch::parse(batch_of(std::slice::from_ref(&line), compress_above)).unwrap();
        assert_eq!(batch.entries[0].line, line);
    }
}

#[test]
fn compression_is_used_above_the_threshold_and_only_where_it_helps() {
    let line = output(1, &"again and ".repeat(100)).to_line();
    let payload = |compress_above| batch_of(std::slice::from_ref(&line), compress_above);
    assert!(payload(line.len() - 1).len() < line.len() / 2);
    assert_eq!(payload(line.len()), line);
    let short = output(1, "x").to_line();
    assert!(batch_of(std::slice::from_ref(&short), 0).len() <= short.len());
}

#[test]
fn json_of_any_depth_is_carried_in_linear_time() {
    let begun = Instant::now();
    let depth = 200_000;
    let text = format!("{}1e400{}", "[\n".repeat(depth), " ]".repeat(depth));
    let json = Json::parse(&text).unwrap();
    assert_eq!(json.as_str().len(), 2 * depth + 5);
    let mut message = output(1, "");
    message.kind = MessageType::Log;
    message.content = json;
    assert_eq!(Message::parse(&message.to_line()).unwrap(), message);
    assert!(begun.elapsed() < Duration::from_secs(5));
}
