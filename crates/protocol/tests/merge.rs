//! Merging leaves the text, the order and what may not be merged as they are.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use runcast_protocol::merge::merge;
use runcast_protocol::{Batch, BatchWriter, Entry, Json, Lane, Message, Sequence};

mod any;

const LANE: &str = "output/var-1";

fn lane() -> Lane {
    LANE.parse().expect("a lane")
}

/// A line of output as a sidecar, or somebody else, writes it: the fields in either order.
fn line(number: u64, content: &str, metadata: &str, other_order: bool) -> String {
    let time = format!("2026-01-10T10:30:00.{number:06}Z");
    if other_order {
        format!(
            r#"{{"content":{content}, "sequence":{number},"type":"output","run_id":"r","variation_id":"var-1","metadata":{metadata},"timestamp":"{time}"}}"#
        )
    } else {
        format!(
            r#"{{"timestamp":"{time}","run_id":"r","variation_id":"var-1","sequence":{number},"type":"output","content":{content},"metadata":{metadata}}}"#
        )
    }
}

fn entries(lines: &[String]) -> Vec<Entry> {
    let mut writer = BatchWriter::default();
    lines.iter().for_each(|line| writer.push(line.as_bytes()));
    Batch::parse(writer.finish(usize::MAX)).expect("a batch").entries
}

/// What a string says in UTF-16, as browsers join it: lone halves of surrogate pairs included.
fn utf16(json: &str) -> Vec<u16> {
    let mut units = Vec::new();
    let mut chars = json[1..json.len() - 1].chars();
    while let Some(char) = chars.next() {
        if char != '\\' {
            units.extend(char.encode_utf16(&mut [0; 2]).iter());
            continue;
        }
        units.push(match chars.next().expect("an escape") {
            'u' => {
                let hex: String = chars.by_ref().take(4).collect();
                u16::from_str_radix(&hex, 16).expect("four digits")
            }
            'n' => 10,
            'r' => 13,
            't' => 9,
            'b' => 8,
            'f' => 12,
            other => other as u16,
        });
    }
    units
}

fn content() -> impl Strategy<Value = String> {
    let halves = select(&[r#""\ud83d""#, r#""\ude00""#, r#""\\ud83d""#, r#""\\""#, r#""""#, r#""😀""#][..]);
    prop_oneof![2 => any::text().prop_map(|text| Json::string(&text).as_str().to_owned()), 1 => halves.prop_map(str::to_owned)]
}

proptest! {
    #![proptest_config(any::cases(512))]

    #[test]
    fn the_text_stays_the_same_and_every_message_is_in_one(
        said in vec((content(), select(&["{}", r#"{"a":1}"#][..]), prop::bool::weighted(0.1)), 1..30),
        first in 1..1000u64,
    ) {
        let line = |(number, (content, metadata, order)): (u64, &(String, &str, bool))| line(number, content, metadata, *order);
        let lines: Vec<String> = (first..).zip(&said).map(line).collect();
        let entries = entries(&lines);
        let merged = merge(&lane(), &entries);
        let (mut next, mut text) = (first, Vec::new());
        for message in &merged {
            prop_assert_eq!(message.first.get(), next);
            let last = message.entry.sequence.get();
            let own: Vec<_> = (next..=last).map(|number| &said[usize::try_from(number - first).unwrap()]).collect();
            prop_assert!(own.iter().all(|one| (one.1, one.2) == (own[0].1, own[0].2)), "others stay apart");
            let parsed = Message::parse(&message.entry.line).unwrap();
            prop_assert_eq!((parsed.first_sequence(), parsed.sequence), (message.first, message.entry.sequence));
            prop_assert_eq!(parsed.lane(), lane());
            prop_assert_eq!(parsed.timestamp.subsec_nanosecond() as u64, last * 1000);
            text.extend(utf16(parsed.content.as_str()));
            if !message.is_several() {
                prop_assert_eq!(&message.entry, &entries[usize::try_from(next - first).unwrap()]);
            }
            next = last + 1;
        }
        prop_assert_eq!(next, first + said.len() as u64);
        prop_assert_eq!(text, said.iter().flat_map(|(content, ..)| utf16(content)).collect::<Vec<_>>());
        // As few as can be: neighbours differ in something.
        for pair in merged.windows(2) {
            let at = |number: Sequence| &said[usize::try_from(number.get() - first).unwrap()];
            let (one, two) = (at(pair[0].entry.sequence), at(pair[1].first));
            prop_assert!((one.1, one.2) != (two.1, two.2));
        }
    }

    #[test]
    fn messages_of_any_kind_survive(messages in vec(any::message(), 1..6)) {
        // Not of one lane, nor numbered: whatever it is, nothing is changed that is not output of one lane.
        let entry = |message: &Message| Entry {
            sequence: message.sequence,
            variation: message.variation_id.clone(),
            line: message.to_line().into(),
        };
        let entries: Vec<_> = messages.iter().map(entry).collect();
        let merged = merge(&"logs/var-1".parse().unwrap(), &entries);
        prop_assert_eq!(merged.into_iter().map(|message| message.entry).collect::<Vec<_>>(), entries);
    }
}

fn spans(lines: &[String]) -> Vec<(u64, u64)> {
    let merged = merge(&lane(), &entries(lines));
    merged.iter().map(|message| (message.first.get(), message.entry.sequence.get())).collect()
}

#[test]
fn a_merged_message_is_the_last_with_the_text_of_all() {
    let lines = [line(7, r#""one \ud83d""#, "{}", false), line(8, r#""\ude00 two\n""#, "{}", false)];
    let merged = merge(&lane(), &entries(&lines));
    assert_eq!(
        String::from_utf8_lossy(&merged[0].entry.line),
        r#"{"timestamp":"2026-01-10T10:30:00.000008Z","run_id":"r","variation_id":"var-1","sequence":8,"type":"output","content":"one \ud83d\ude00 two\n","metadata":{},"first_sequence":7}"#
    );
    let text = Message::parse(&merged[0].entry.line).unwrap().content.to_text();
    assert_eq!(text.as_deref(), Some("one 😀 two\n"));
}

#[test]
fn what_was_merged_elsewhere_and_what_is_too_long_stays_alone() {
    let merged = line(1, r#""a""#, "{}", false).replace("}}", r#"},"first_sequence":null}"#);
    assert_eq!(
        spans(&[merged.clone(), merged.replace("\"sequence\":1", "\"sequence\":2")]),
        [(1, 1), (2, 2)]
    );
    let long = format!("\"{}\"", "x".repeat(40 << 10));
    let lines: Vec<_> =
        (1..=4).map(|number| line(number, if number == 1 { "\"a\"" } else { &long }, "{}", false)).collect();
    assert_eq!(spans(&lines), [(1, 2), (3, 3), (4, 4)]);
}
