//! Strategies for whatever the protocol has to carry, the unpleasant kind first.

#![allow(dead_code, reason = "each test file uses the strategies that it needs")]

use jiff::Timestamp;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use runcast_protocol::{
    Channel, Cursor, Json, Lane, Message, MessageType, RunId, Sequence, VariationId, Writer,
};

const TYPES: [MessageType; 6] = [
    MessageType::Output,
    MessageType::Log,
    MessageType::Status,
    MessageType::Metric,
    MessageType::Control,
    MessageType::Ack,
];

const KNOWN_FIELDS: [&str; 8] =
    ["timestamp", "run_id", "variation_id", "sequence", "type", "content", "metadata", "writer"];

/// Pieces of text that have broken somebody's frames, JSON or terminals.
const NASTY: [&str; 24] = [
    "\n",
    "\r",
    "\r\n",
    "\n\n",
    "\r\r",
    "\n\r",
    "\0",
    "\u{2028}",
    "\u{2029}",
    "\u{85}",
    "\u{b}",
    "\u{c}",
    "\u{feff}",
    "\u{fffd}",
    "\u{1b}[31m",
    "\\",
    "\"",
    "\\u000a",
    "🚀",
    "👩\u{200d}👩",
    "data: x",
    "id: 9\n",
    "\n\ndata: x\nevent: end\nid: 9\n\n",
    ":\n\n",
];

/// As many cases as are quick without optimisation. A failure prints what is needed to write it down
/// as a test of its own, so no file keeps it.
pub(crate) fn cases(count: u32) -> ProptestConfig {
    ProptestConfig { cases: count, failure_persistence: None, ..ProptestConfig::default() }
}

/// Any text, with line ends, control characters and SSE fields far more often than chance has them.
pub(crate) fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        3 => select(&NASTY[..]).prop_map(str::to_owned),
        2 => ".{0,12}",
        1 => any::<String>(),
    ];
    vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

/// Any bytes, valid UTF-8 or not, cut anywhere.
pub(crate) fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let cut_text = (text(), any::<prop::sample::Index>()).prop_map(|(text, at)| {
        let mut bytes = text.into_bytes();
        bytes.truncate(at.index(bytes.len() + 1));
        bytes
    });
    let piece = prop_oneof![cut_text, vec(any::<u8>(), 0..12)];
    vec(piece, 0..5).prop_map(|pieces| pieces.concat())
}

pub(crate) fn variation() -> impl Strategy<Value = VariationId> {
    prop_oneof![4 => "var-[1-3]", 1 => "[A-Za-z0-9._-]{1,128}"]
        .prop_map(|id| VariationId::new(id).expect("it is of the alphabet"))
}

pub(crate) fn run() -> impl Strategy<Value = RunId> {
    "[A-Za-z0-9._-]{1,128}".prop_map(|id| RunId::new(id).expect("it is of the alphabet"))
}

pub(crate) fn writer() -> impl Strategy<Value = Writer> {
    prop_oneof![3 => variation().prop_map(Writer::Variation), 1 => Just(Writer::Control)]
}

pub(crate) fn sequence() -> impl Strategy<Value = Sequence> {
    let max = Sequence::MAX.get();
    prop_oneof![1..100u64, 1..=max, max - 3..=max]
        .prop_map(|number| Sequence::new(number).expect("it is at most 2^53 - 1"))
}

pub(crate) fn cursor() -> impl Strategy<Value = Cursor> {
    let lane = (select(&Channel::ALL[..]), writer()).prop_map(|(channel, writer)| Lane { channel, writer });
    vec((lane, prop_oneof![Just(Sequence::NONE), sequence()]), 0..24)
        .prop_map(|positions| positions.into_iter().collect())
}

/// The text of any JSON string: raw where JSON allows it, escaped in either way, lone surrogates.
fn json_string() -> impl Strategy<Value = String> {
    let as_serde_does = text().prop_map(|text| serde_json::to_string(&text).expect("text is JSON"));
    let all_escaped = text().prop_map(|text| {
        let units: String = text.encode_utf16().map(|unit| format!("\\u{unit:04X}")).collect();
        format!("\"{units}\"")
    });
    prop_oneof![
        4 => as_serde_does,
        1 => all_escaped,
        1 => select(&[r#""\/\b\f""#, r#""\ud800""#, r#"" { \"a\" : 1 } ""#, r#""\\""#, r#""\\\"  ""#][..])
            .prop_map(str::to_owned),
    ]
}

fn json_number() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<i64>().prop_map(|number| number.to_string()),
        select(&["1e400", "-1E+999", "-0", "-0.0", "1.50", "5e-400", "0.1e1"][..]).prop_map(str::to_owned),
        "[1-9][0-9]{20,60}",
        "-?(0|[1-9][0-9]{0,8})(\\.[0-9]{1,40})?([eE][+-]?[0-9]{1,5})?",
    ]
}

fn space() -> impl Strategy<Value = String> {
    "[ \t\r\n]{0,3}"
}

/// The text of any JSON value, with space between any two tokens and keys that repeat.
pub(crate) fn json_text() -> impl Strategy<Value = String> {
    let scalar = prop_oneof![
        select(&["null", "true", "false"][..]).prop_map(str::to_owned),
        json_number(),
        json_string(),
    ];
    let spaced = (space(), scalar, space()).prop_map(|(before, value, after)| before + &value + &after);
    spaced.prop_recursive(5, 24, 5, |inner| {
        prop_oneof![
            (space(), vec(inner.clone(), 0..5), space())
                .prop_map(|(before, items, after)| format!("{before}[ {} ]{after}", items.join(","))),
            object_text(inner),
        ]
    })
}

fn object_text(value: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    let key = prop_oneof![Just("\"a\"".to_owned()), json_string()];
    let member = (space(), key, space(), value)
        .prop_map(|(before, key, after, value)| format!("{before}{key}{after}:{value}"));
    (space(), vec(member, 0..5), space())
        .prop_map(|(before, members, after)| format!("{before}{{\n{}}}{after}", members.join(",")))
}

pub(crate) fn json() -> impl Strategy<Value = Json> {
    json_text().prop_map(|text| Json::parse(&text).expect("it is JSON"))
}

pub(crate) fn json_object() -> impl Strategy<Value = Json> {
    object_text(json_text()).prop_map(|text| Json::parse(&text).expect("it is JSON"))
}

fn timestamp() -> impl Strategy<Value = Timestamp> {
    let first = Timestamp::MIN.as_microsecond();
    // jiff makes no timestamp of the microseconds that follow, the last second of all.
    let last = Timestamp::MAX.as_second() * 1_000_000;
    prop_oneof![
        1_700_000_000_000_000..1_900_000_000_000_000i64,
        first..=last,
        select(vec![first, last, -1, 0, 1]),
    ]
    .prop_map(|micros| Timestamp::from_microsecond(micros).expect("it is in range"))
}

fn extra() -> impl Strategy<Value = Vec<(String, Json)>> {
    let name = text().prop_filter("a field of that name is known", |name| !KNOWN_FIELDS.contains(&&**name));
    vec((name, json()), 0..4)
}

/// Any message: any text as output, any JSON elsewhere.
pub(crate) fn message() -> impl Strategy<Value = Message> {
    select(&TYPES[..]).prop_flat_map(message_of)
}

pub(crate) fn message_of(kind: MessageType) -> impl Strategy<Value = Message> {
    let content = match kind {
        MessageType::Output => text().prop_map(|text| Json::string(&text)).boxed(),
        _ => json().boxed(),
    };
    (timestamp(), run(), variation(), sequence(), content, json_object(), any::<bool>(), extra()).prop_map(
        move |(timestamp, run_id, variation_id, sequence, content, metadata, by_control, extra)| Message {
            writer: if by_control { Writer::Control } else { Writer::Variation(variation_id.clone()) },
            timestamp,
            run_id,
            variation_id,
            sequence,
            kind,
            content,
            metadata,
            extra,
        },
    )
}
