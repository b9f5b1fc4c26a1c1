//! Whatever is said, a viewer gets it as one event: no data can break a frame or smuggle another in.

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use runcast_protocol::sse::{self, Event, Parser};
use runcast_protocol::{EventName, Json, Message, MessageType};

mod any;

const NAMES: [EventName; 10] = [
    EventName::Message(MessageType::Output),
    EventName::Message(MessageType::Log),
    EventName::Message(MessageType::Status),
    EventName::Message(MessageType::Metric),
    EventName::Message(MessageType::Control),
    EventName::Message(MessageType::Ack),
    EventName::Snapshot,
    EventName::Gap,
    EventName::Start,
    EventName::End,
];

/// What a server may put on a stream.
#[derive(Debug, Clone)]
enum Piece {
    Frame { id: String, name: EventName, data: Vec<u8> },
    Heartbeat,
    Retry(Duration),
}

fn name() -> impl Strategy<Value = EventName> {
    select(&NAMES[..])
}

fn piece() -> impl Strategy<Value = Piece> {
    let id = any::cursor().prop_map(|cursor| cursor.to_string());
    prop_oneof![
        4 => (id, name(), any::bytes()).prop_map(|(id, name, data)| Piece::Frame { id, name, data }),
        1 => Just(Piece::Heartbeat),
        1 => (0..1u64 << 40).prop_map(|millis| Piece::Retry(Duration::from_millis(millis))),
    ]
}

/// `data` as a client gets it: its line ends made LF, what is not UTF-8 made U+FFFD.
fn as_received(data: &[u8]) -> String {
    String::from_utf8_lossy(data).replace("\r\n", "\n").replace('\r', "\n")
}

/// Feeds `stream` to `parser` cut at `cuts`.
fn parse_cut(parser: &mut Parser, stream: &[u8], cuts: &[Index]) -> Vec<Event> {
    let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
    cuts.push(stream.len());
    cuts.sort_unstable();
    let mut from = 0;
    let mut events = Vec::new();
    for to in cuts {
        events.extend(parser.push(&stream[from..to]));
        from = to;
    }
    events
}

fn parse(stream: &[u8]) -> Vec<Event> {
    Parser::default().push(stream)
}

fn frame(id: &str, name: EventName, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    sse::write_frame(&mut out, id, name, data);
    out
}

fn event(id: &str, name: EventName, data: &[u8]) -> Event {
    Event { id: id.to_owned(), event: name.as_str().to_owned(), data: as_received(data) }
}

proptest! {
    #![proptest_config(any::cases(256))]

    #[test]
    fn any_bytes_as_data_are_exactly_one_event(
        name in name(),
        id in any::cursor(),
        data in any::bytes(),
        cuts in vec(any::<Index>(), 0..8),
    ) {
        let id = id.to_string();
        let out = frame(&id, name, &data);
        prop_assert!(!out.contains(&b'\r'));
        let mut parser = Parser::default();
        prop_assert_eq!(parse_cut(&mut parser, &out, &cuts), [event(&id, name, &data)]);
        prop_assert_eq!(parser.last_event_id(), id);
    }

    #[test]
    fn a_stream_of_frames_heartbeats_and_retries_gives_just_the_frames(
        pieces in vec(piece(), 0..12),
        cuts in vec(any::<Index>(), 0..24),
    ) {
        let (mut out, mut events, mut retry) = (Vec::new(), Vec::new(), None);
        for piece in &pieces {
            match piece {
                Piece::Frame { id, name, data } => {
                    sse::write_frame(&mut out, id, *name, data);
                    events.push(event(id, *name, data));
                }
                Piece::Heartbeat => out.extend_from_slice(sse::HEARTBEAT),
                Piece::Retry(delay) => {
                    sse::write_retry(&mut out, *delay);
                    retry = Some(*delay);
                }
            }
        }
        prop_assert!(!out.contains(&b'\r'));
        let mut parser = Parser::default();
        prop_assert_eq!(&parse_cut(&mut parser, &out, &cuts), &events);
        prop_assert_eq!(parser.retry(), retry);
        prop_assert_eq!(parser.last_event_id(), events.last().map_or("", |event| &event.id));
    }

    #[test]
    fn an_id_that_could_break_out_is_left_off_and_the_event_still_comes(
        id in any::text(),
        data in any::bytes(),
    ) {
        let name = EventName::End;
        let mut out = frame("var-1:1", name, b"before");
        sse::write_frame(&mut out, &id, name, &data);
        let kept = if id.contains(['\n', '\r', '\0']) { "var-1:1" } else { &id };
        prop_assert_eq!(parse(&out), [event("var-1:1", name, b"before"), event(kept, name, &data)]);
    }

    #[test]
    fn a_stream_means_the_same_wherever_it_is_cut(
        stream in any::bytes(),
        cuts in vec(any::<Index>(), 0..24),
    ) {
        let (mut whole, mut cut) = (Parser::default(), Parser::default());
        prop_assert_eq!(whole.push(&stream), parse_cut(&mut cut, &stream, &cuts));
        prop_assert_eq!(whole.last_event_id(), cut.last_event_id());
        prop_assert_eq!(whole.retry(), cut.retry());
    }

    #[test]
    fn a_message_reaches_the_viewer_byte_for_byte(message in any::message()) {
        let line = message.to_line();
        let name = EventName::Message(message.kind);
        let events = parse(&frame("var-1:1", name, &line));
        prop_assert_eq!(events.len(), 1);
        prop_assert_eq!(events[0].data.as_bytes(), line);
    }
}

proptest! {
    #![proptest_config(any::cases(6))]

    #[test]
    fn up_to_a_mebibyte_of_hostile_content_reaches_the_viewer_byte_for_byte(
        message in any::message_of(MessageType::Output),
        text in any::text(),
        size in 0..=1usize << 20,
    ) {
        let text = format!("{text}\n\ndata: x\r\n\r\nid: 9\0\u{2028}").repeat(1 + size / (text.len() + 25));
        let message = Message { content: Json::string(&text), ..message };
        let line = message.to_line();
        let name = EventName::Message(MessageType::Output);
        let events = parse(&frame("var-1:1", name, &line));
        prop_assert_eq!(events.len(), 1);
        prop_assert!(events[0].data.as_bytes() == line);
        let read = Message::parse(events[0].data.as_bytes()).unwrap();
        prop_assert!(read.content.to_text() == Some(text));
    }
}

#[test]
fn a_frame_looks_as_the_contract_has_it() {
    let mut out = Vec::new();
    sse::write_retry(&mut out, Duration::from_secs(2));
    sse::write_frame(&mut out, "var-1:1234", EventName::Message(MessageType::Output), b"{}");
    assert_eq!(out, b"retry: 2000\nid: var-1:1234\nevent: output\ndata: {}\n\n");
    assert_eq!(sse::HEARTBEAT, b":\n");
}

#[test]
fn no_event_is_called_error_or_message() {
    for name in NAMES {
        assert!(!["error", "message", "open", ""].contains(&name.as_str()));
    }
}

#[test]
fn an_id_with_nul_is_not_written_at_all() {
    // The parser would ignore it, and so hide that it was sent.
    assert_eq!(frame("var-1:1\0", EventName::End, b"{}"), b"event: end\ndata: {}\n\n");
}

#[test]
fn an_attempt_to_smuggle_an_event_stays_data() {
    for attempt in [
        "\n\ndata: x\nevent: end\nid: 9",
        "\r\rdata: x\revent: end\rid: 9\r\r",
        "\r\n\r\nevent: end\r\n\r\n",
        "x\n\r\n\rid: 9",
        "\n",
        "\r",
        "\r\n",
        "",
        " ",
        "\u{feff}",
    ] {
        let name = EventName::Message(MessageType::Log);
        let out = frame("var-1:1", name, attempt.as_bytes());
        assert_eq!(parse(&out), [event("var-1:1", name, attempt.as_bytes())], "{attempt:?}");
    }
}

/// Streams and the data of their events, from WHATWG HTML §9.2.6 and its web-platform-tests.
#[test]
fn the_parser_reads_streams_as_the_standard_says() {
    let vectors: [(&str, &[&str]); 14] = [
        ("data: YHOO\ndata: +2\ndata: 10\n\n", &["YHOO\n+2\n10"]),
        (
            ": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
            &["first event", "second event", " third event"],
        ),
        ("data\n\ndata\ndata\n\ndata:", &["", "\n"]),
        ("data:test\n\ndata: test\n\n", &["test", "test"]),
        ("data:test\r\ndata\ndata:test\r\n\r", &["test\n\ntest"]),
        ("data:\ttest\rdata: \ndata:test\n\n", &["\ttest\n\ntest"]),
        (
            "data:\0\ndata:  2\rData:1\ndata\0:2\ndata:1\r\0data:4\nda-ta:3\rdata_5\ndata:3\rdata:\r\n data:32\ndata:4\n\n",
            &["\0\n 2\n1\n3\n\n4"],
        ),
        ("data:1\r:\0\n:\r\ndata:2\n:data:fail\rdata:3\n\n", &["1\n2\n3"]),
        ("\u{feff}data:1\n\n\u{feff}data:2\n\ndata:3\n\n", &["1", "3"]),
        ("\u{feff}\u{feff}data:1\n\ndata:2\n\n", &["2"]),
        ("\u{feff}\ndata:1\n\n", &["1"]),
        ("event: named\n\nid: 7\n\nretry: 5\n\n:\n\n\n\n", &[]),
        ("data: unfinished\n", &[]),
        ("data:ok\u{2026}\u{2028}\u{85}\n\n", &["ok\u{2026}\u{2028}\u{85}"]),
    ];
    for (stream, data) in vectors {
        let read: Vec<_> = parse(stream.as_bytes()).into_iter().map(|event| event.data).collect();
        assert_eq!(read, data, "{stream:?}");
        let mut parser = Parser::default();
        let bytewise: Vec<_> = stream.bytes().flat_map(|byte| parser.push(&[byte])).collect();
        assert_eq!(bytewise, parse(stream.as_bytes()), "{stream:?} byte by byte");
    }
}

#[test]
fn names_last_for_one_event_and_ids_until_the_next() {
    let events = parse(b"event: a\nevent: b\nid: 1\ndata\n\ndata\n\nid: 2\0\ndata\n\nid\nevent:\ndata\n\n");
    let seen: Vec<_> = events.iter().map(|event| (&*event.event, &*event.id)).collect();
    assert_eq!(seen, [("b", "1"), ("", "1"), ("", "1"), ("", "")]);
    assert!(parse(b"event: a\n\ndata\n\n")[0].event.is_empty());
}

#[test]
fn a_connection_that_breaks_within_a_frame_leaves_the_last_whole_events_id() {
    let mut parser = Parser::default();
    parser.push(b"id: 1\ndata: whole\n\nid: 2\ndata: brok");
    assert_eq!(parser.last_event_id(), "1", "resuming after 2 would miss its event");
    parser.push(b"en\n\n");
    assert_eq!(parser.last_event_id(), "2");
    parser.push(b"id: 3\n\n");
    assert_eq!(parser.last_event_id(), "3", "an id with no data counts at the blank line");
}

#[test]
fn a_retry_that_is_no_number_is_ignored() {
    let mut parser = Parser::default();
    parser.push(b"retry: 3000\nretry: 1000x\nretry:\nretry: -1\nretry:  1\nretry\n");
    parser.push(b"retry: 99999999999999999999999\n");
    assert_eq!(parser.retry(), Some(Duration::from_secs(3)));
}
