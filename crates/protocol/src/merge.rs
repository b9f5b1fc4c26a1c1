//! Adjacent output messages as one: joining a viewer who is behind to the text costs the size of the
//! text, not that of so many messages around it.
//!
//! Messages are merged if they are of one lane of output, follow each other without a hole, and are, byte
//! for byte, the same but for their `timestamp`, `sequence` and `content`. What comes out is a message: the
//! last one, so that `sequence` is where a viewer stands after it and nothing is shown as said earlier than
//! it was, with the text of all of them and a field more, `first_sequence`, so that a viewer can still see that
//! nothing is missing before it.
//!
//! The text is not decoded: JSON strings are joined as they stand between their quotes. No escape spans
//! two messages, and halves of a surrogate pair that were parted become one character, as they do
//! where the decoded strings are joined in UTF-16.

use std::ops::Range;

use bytes::Bytes;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::{Channel, Entry, Lane, Sequence};

/// The field that a merged message has more than others.
pub const FIRST_SEQUENCE: &str = "first_sequence";

/// Most bytes of text, as it stands in JSON, that are merged into one message.
const MAX_BYTES: usize = 64 << 10;

/// One message, or several as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged {
    /// Sequence of the first message in it.
    pub first: Sequence,
    /// The message, with the sequence of the last.
    pub entry: Entry,
}

impl Merged {
    /// Whether it is several.
    pub fn is_several(&self) -> bool {
        self.first < self.entry.sequence
    }
}

/// Merges what can be of a lane's messages, given in order; the others stay as they are.
pub fn merge(lane: &Lane, entries: &[Entry]) -> Vec<Merged> {
    let mut merged = Vec::new();
    let mut rest = entries.iter();
    let mut next = rest.next().map(|entry| (entry, Parts::of(lane, entry)));
    while let Some((first, parts)) = next.take() {
        let mut run = Run::new(first, parts);
        next = rest.find_map(|entry| {
            let parts = Parts::of(lane, entry);
            if run.takes(entry, parts.as_ref()) {
                run.push(entry, parts);
                return None;
            }
            Some((entry, parts))
        });
        merged.push(run.finish());
    }
    merged
}

/// Where the values stand in a message's line that merged messages may differ in.
#[derive(Debug)]
struct Parts {
    timestamp: Range<usize>,
    sequence: Range<usize>,
    /// With its quotes.
    content: Range<usize>,
}

/// Borrowed from the line, so that their places in it are known.
#[derive(Deserialize)]
struct Values<'a> {
    #[serde(borrow)]
    timestamp: &'a RawValue,
    #[serde(borrow)]
    sequence: &'a RawValue,
    #[serde(borrow)]
    content: &'a RawValue,
    /// A message that has it already was merged elsewhere, or means something else by it.
    #[serde(default, deserialize_with = "given")]
    first_sequence: bool,
}

fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}

impl Parts {
    /// None if the message cannot be merged with any other.
    fn of(lane: &Lane, entry: &Entry) -> Option<Self> {
        let line = &entry.line;
        // serde would take an array of the fields' values for the object.
        if lane.channel != Channel::Output || !line.starts_with(b"{") || !line.ends_with(b"}") {
            return None;
        }
        let values: Values<'_> = serde_json::from_slice(line).ok()?;
        let place = |value: &RawValue| {
            let start = value.get().as_ptr().addr().checked_sub(line.as_ptr().addr())?;
            Some(start..start + value.get().len())
        };
        let mergeable = values.content.get().starts_with('"') && !values.first_sequence;
        let (timestamp, sequence) = (place(values.timestamp)?, place(values.sequence)?);
        mergeable.then_some(Self { timestamp, sequence, content: place(values.content)? })
    }

    /// The rest of the line, with its values' places in order.
    fn others<'a>(&self, line: &'a [u8]) -> ([&'a [u8]; 4], [u8; 3]) {
        let mut values = [(&self.timestamp, 0), (&self.sequence, 1), (&self.content, 2)];
        values.sort_unstable_by_key(|(place, _)| place.start);
        let [(one, a), (two, b), (three, c)] = values;
        let between =
            [&line[..one.start], &line[one.end..two.start], &line[two.end..three.start], &line[three.end..]];
        (between, [a, b, c])
    }

    /// What the content says, without its quotes.
    fn text<'a>(&self, line: &'a [u8]) -> &'a [u8] {
        &line[self.content.start + 1..self.content.end - 1]
    }
}

/// Messages that become one.
struct Run<'a> {
    first: Sequence,
    last: &'a Entry,
    /// Of the last; none if it stays alone.
    parts: Option<Parts>,
    texts: Vec<&'a [u8]>,
    bytes: usize,
}

impl<'a> Run<'a> {
    fn new(entry: &'a Entry, parts: Option<Parts>) -> Self {
        let texts: Vec<_> = parts.iter().map(|parts| parts.text(&entry.line)).collect();
        let bytes = texts.iter().map(|text| text.len()).sum();
        Self { first: entry.sequence, last: entry, parts, texts, bytes }
    }

    fn takes(&self, entry: &Entry, parts: Option<&Parts>) -> bool {
        let (Some(own), Some(parts)) = (&self.parts, parts) else { return false };
        entry.sequence > self.last.sequence
            && entry.sequence == self.last.sequence.next()
            && self.bytes + parts.text(&entry.line).len() <= MAX_BYTES
            && own.others(&self.last.line) == parts.others(&entry.line)
    }

    fn push(&mut self, entry: &'a Entry, parts: Option<Parts>) {
        let text = parts.as_ref().map_or(&[][..], |parts| parts.text(&entry.line));
        self.texts.push(text);
        self.bytes += text.len();
        (self.last, self.parts) = (entry, parts);
    }

    fn finish(self) -> Merged {
        let Self { first, last, parts, texts, bytes } = self;
        let Some(parts) = parts.filter(|_| texts.len() > 1) else {
            return Merged { first, entry: last.clone() };
        };
        let mut line = Vec::with_capacity(last.line.len() + bytes + 40);
        line.extend_from_slice(&last.line[..=parts.content.start]);
        for text in texts {
            line.extend_from_slice(text);
        }
        // Up to the closing brace, which the line ends in.
        line.extend_from_slice(&last.line[parts.content.end - 1..last.line.len() - 1]);
        line.extend_from_slice(format!(",\"{FIRST_SEQUENCE}\":{first}}}").as_bytes());
        Merged { first, entry: Entry { line: Bytes::from(line), ..last.clone() } }
    }
}
