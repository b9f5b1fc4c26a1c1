//! What is not what it says it is: refused with a reason, quickly, and never with a panic.

use std::time::{Duration, Instant};

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use runcast_protocol::sse::Parser;
use runcast_protocol::{Batch, BatchError, BatchWriter, Cursor, Json, Lane, Message, MessageHead, RunId};

mod any;

const MIB: usize = 1 << 20;

/// A message's line, with `fields` instead of or beside the usual ones.
fn line(fields: &[(&str, &str)]) -> String {
    let mut all = vec![
        ("timestamp", r#""2026-01-10T10:30:00.123456Z""#),
        ("run_id", r#""run-abc""#),
        ("variation_id", r#""var-1""#),
        ("sequence", "1"),
        ("type", r#""output""#),
        ("content", r#""x""#),
        ("metadata", "{}"),
    ];
    for &(name, value) in fields {
        match all.iter_mut().find(|(known, _)| *known == name) {
            Some(field) => field.1 = value,
            None => all.push((name, value)),
        }
    }
    let members: Vec<_> = all.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
    format!("{{{}}}", members.join(","))
}

fn parse(payload: impl Into<Vec<u8>>) -> Result<Batch, BatchError> {
    Batch::parse(Bytes::from(payload.into()))
}

fn numbered(sequence: u64) -> String {
    line(&[("sequence", &sequence.to_string())])
}

fn is_too_large(result: &Result<Batch, BatchError>) -> bool {
    matches!(result, Err(BatchError::TooLarge))
}

#[test]
fn the_plain_line_that_the_other_tests_spoil_is_a_batch() {
    let batch = parse(line(&[])).unwrap();
    assert_eq!((batch.lane.to_string(), batch.last().get()), ("output/var-1".to_owned(), 1));
    assert!(Message::parse(line(&[]).as_bytes()).is_ok());
}

#[test]
fn a_decompression_bomb_is_refused_quickly() {
    let zeros = vec![0; 100 * MIB];
    let one_frame = zstd::bulk::compress(&zeros, 1).unwrap();
    let streamed = zstd::encode_all(&zeros[..], 1).unwrap();
    let many_frames = zstd::bulk::compress(&zeros[..MIB], 1).unwrap().repeat(1000);
    let begun = Instant::now();
    for bomb in [one_frame, streamed, many_frames] {
        assert!(bomb.len() < MIB);
        // The first says at once that it needs a larger window than a batch may.
        let result = parse(bomb);
        assert!(is_too_large(&result) || matches!(result, Err(BatchError::Zstd(_))), "{result:?}");
    }
    assert!(begun.elapsed() < Duration::from_secs(2));
}

#[test]
fn the_limit_is_the_same_compressed_or_not() {
    let padding = |size: usize| format!("\"{}\"", "x".repeat(size - line(&[("content", "\"\"")]).len()));
    for (size, fits) in [(16 * MIB, true), (16 * MIB + 1, false)] {
        let line = line(&[("content", &padding(size))]);
        assert_eq!(line.len(), size);
        for compress_above in [0, usize::MAX] {
            let mut writer = BatchWriter::default();
            writer.push(line.as_bytes());
            let result = Batch::parse(writer.finish(compress_above));
            assert!(if fits { result.is_ok() } else { is_too_large(&result) }, "{size} bytes");
        }
    }
}

#[test]
fn zstd_that_is_cut_off_or_broken_is_refused() {
    let frame =
        zstd::bulk::compress(line(&[("content", &format!("\"{}\"", "ab".repeat(999)))]).as_bytes(), 1)
            .unwrap();
    assert!(parse(frame.clone()).is_ok());
    for length in 4..frame.len() {
        let result = parse(&frame[..length]);
        assert!(matches!(result, Err(BatchError::Zstd(_))), "{length} bytes: {result:?}");
    }
    let mut with_tail = frame;
    with_tail.extend_from_slice(b"tail");
    assert!(matches!(parse(with_tail), Err(BatchError::Zstd(_))));
    // A frame header that asks for a window of 2 GiB (RFC 8878 §3.1.1.1.2).
    let greedy = [&[0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8][..], &[0; 64]].concat();
    assert!(matches!(parse(greedy), Err(BatchError::Zstd(_))));
    assert!(parse(zstd::bulk::compress(b"", 1).unwrap()).is_err());
}

#[test]
fn messages_of_two_lanes_are_not_a_batch() {
    let others = [
        line(&[("sequence", "2"), ("variation_id", r#""var-2""#)]),
        line(&[("sequence", "2"), ("type", r#""log""#)]),
        line(&[("sequence", "2"), ("writer", r#""@control""#)]),
        line(&[("sequence", "2"), ("writer", r#""var-2""#)]),
    ];
    for other in others {
        let result = parse(format!("{}\n{other}", line(&[])));
        assert!(matches!(result, Err(BatchError::NotConsecutive)), "{other}: {result:?}");
    }
}

#[test]
fn holes_repeats_and_steps_back_are_not_a_batch() {
    let max = (1 << 53) - 1;
    for numbers in [&[1, 3][..], &[1, 1], &[2, 1], &[1, 2, 4], &[0, 1], &[0], &[max, max], &[max, 1]] {
        let lines: Vec<_> = numbers.iter().map(|&number| numbered(number)).collect();
        let result = parse(lines.join("\n"));
        assert!(matches!(result, Err(BatchError::NotConsecutive)), "{numbers:?}: {result:?}");
    }
    assert_eq!(parse([numbered(max - 1), numbered(max)].join("\n")).unwrap().last().get(), max);
}

#[test]
fn blank_lines_and_line_ends_at_the_end_are_not_messages() {
    let one = line(&[]);
    for payload in [
        String::new(),
        "\n".to_owned(),
        format!("{one}\n"),
        format!("\n{one}"),
        format!("{one}\n\n{}", numbered(2)),
    ] {
        assert!(parse(payload.clone()).is_err(), "{payload:?} was taken");
    }
}

#[test]
fn fields_given_twice_are_refused() {
    let fields = [
        ("variation_id", r#""var-1""#),
        ("sequence", "1"),
        ("type", r#""output""#),
        ("writer", r#""var-1""#),
        (r"sequ\u0065nce", "1"),
    ];
    let whole = line(&[("writer", r#""var-1""#)]);
    let with = |name, value| format!("{{\"{name}\":{value},{}", &whole[1..]);
    assert!(parse(with("unknown", "1")).is_ok());
    for (name, value) in fields {
        let twice = with(name, value);
        assert!(parse(twice.clone()).is_err(), "{twice} was taken");
        assert!(Message::parse(twice.as_bytes()).is_err(), "{twice} was taken");
    }
}

#[test]
fn fields_of_the_wrong_type_are_refused() {
    let wrong = [
        ("sequence", "\"1\""),
        ("sequence", "1.0"),
        ("sequence", "1e0"),
        ("sequence", "-1"),
        ("sequence", "null"),
        ("sequence", "9007199254740992"),
        ("sequence", "18446744073709551617"),
        ("type", "\"Output\""),
        ("type", "\"error\""),
        ("type", "\"end\""),
        ("type", "0"),
        ("variation_id", "1"),
        ("variation_id", "null"),
        ("variation_id", "[\"var-1\"]"),
        ("writer", "1"),
        ("writer", "null"),
    ];
    for (name, value) in wrong {
        let line = line(&[(name, value)]);
        assert!(parse(line.clone()).is_err(), "{line} was taken");
        assert!(Message::parse(line.as_bytes()).is_err(), "{line} was taken");
    }
    let only_in_full = [
        ("content", "1"),
        ("content", "null"),
        ("metadata", "[]"),
        ("metadata", "null"),
        ("timestamp", "0"),
        ("timestamp", "\"yesterday\""),
        ("run_id", "null"),
    ];
    for (name, value) in only_in_full {
        let line = line(&[(name, value)]);
        assert!(Message::parse(line.as_bytes()).is_err(), "{line} was taken");
    }
}

#[test]
fn a_message_is_an_object_and_nothing_else() {
    let texts = [
        r#"["var-1",1,"output","var-1"]"#,
        r#" ["var-1",1,"output","var-1"] "#,
        "null",
        "1",
        "{}",
        "\"x\"",
        "{",
    ];
    for text in texts {
        assert!(MessageHead::parse(text.as_bytes()).is_err(), "{text} was taken as a head");
        assert!(parse(text).is_err(), "{text} was taken as a batch");
        assert!(Message::parse(text.as_bytes()).is_err(), "{text} was taken as a message");
    }
}

#[test]
fn names_that_reach_elsewhere_are_refused() {
    let long = "x".repeat(129);
    for name in
        ["", "a/b", "../x", "{x}", "a}:output:b", "a:b", "a,b", "*", "@control2", "@", "é", "a\\n", &long]
    {
        let quoted = format!("\"{name}\"");
        for field in ["variation_id", "writer"] {
            let line = line(&[(field, &quoted)]);
            assert!(parse(line.clone()).is_err(), "{line} was taken");
            assert!(Message::parse(line.as_bytes()).is_err(), "{line} was taken");
        }
        assert!(Message::parse(line(&[("run_id", &quoted)]).as_bytes()).is_err());
        assert!(format!("output/{name}").parse::<Lane>().is_err(), "{name:?} was taken");
        assert!(format!("{name}:1").parse::<Cursor>().is_err(), "{name:?} was taken");
        assert!(RunId::new(name.replace("\\n", "\n")).is_err(), "{name:?} was taken");
    }
    // The control-plane writes about variations; it is not one.
    let control = line(&[("variation_id", r#""@control""#)]);
    assert!(parse(control.clone()).is_err() && Message::parse(control.as_bytes()).is_err());
}

#[test]
fn an_error_does_not_repeat_megabytes_of_what_it_refuses() {
    let long = format!("\"{}\"", "é".repeat(MIB));
    for name in ["type", "sequence", "variation_id", "writer", "timestamp", "run_id"] {
        let line = line(&[(name, &long)]);
        for error in [
            Message::parse(line.as_bytes()).map(drop).unwrap_err().to_string(),
            MessageHead::parse(line.as_bytes()).err().map_or_else(String::new, |error| error.to_string()),
            parse(line.clone()).err().map_or_else(String::new, |error| error.to_string()),
        ] {
            assert!(error.len() < 400, "{name}: {} bytes", error.len());
        }
    }
    let error = Json::parse(&long).unwrap().read::<u64>().unwrap_err().to_string();
    assert!(error.len() < 400, "{} bytes", error.len());
    assert!(long.parse::<Cursor>().unwrap_err().to_string().len() < 400);
}

fn nothing_panics(bytes: &[u8]) {
    if let Ok(batch) = Batch::parse(Bytes::copy_from_slice(bytes)) {
        assert!(batch.first() <= batch.last() && !batch.entries.is_empty());
    }
    if let Ok(message) = Message::parse(bytes) {
        assert_eq!(MessageHead::parse(bytes).expect("a message has a head").sequence, message.sequence);
        assert_eq!(Message::parse(&message.to_line()).expect("it was a message"), message);
    }
    Parser::default().push(bytes);
    let text = String::from_utf8_lossy(bytes);
    if let Ok(cursor) = text.parse::<Cursor>() {
        assert_eq!(cursor.to_string().parse::<Cursor>().expect("it was a cursor"), cursor);
    }
    if let Ok(json) = Json::parse(&text) {
        assert!(!json.as_str().contains(['\r', '\n']));
    }
}

proptest! {
    #![proptest_config(any::cases(256))]

    #[test]
    fn arbitrary_bytes_panic_nothing(bytes in any::bytes()) {
        nothing_panics(&bytes);
    }

    #[test]
    fn arbitrary_bytes_after_zstds_magic_number_panic_nothing(bytes in vec(any::<u8>(), 0..64)) {
        nothing_panics(&[&[0x28, 0xb5, 0x2f, 0xfd], &bytes[..]].concat());
    }

    #[test]
    fn spoilt_messages_batches_and_cursors_panic_nothing(
        message in any::message(),
        cursor in any::cursor(),
        spoil in vec((any::<Index>(), any::<u8>()), 1..4),
    ) {
        let line = message.to_line();
        let frame = zstd::bulk::compress(&line, 1).unwrap();
        for mut bytes in [line, frame, cursor.to_string().into_bytes()] {
            for (at, byte) in &spoil {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            nothing_panics(&bytes);
        }
    }
}
