//! A message as a lane holds it: written out, and in memory, in the journal or both.

use jiff::Timestamp;
use runcast_protocol::{Json, Message, MessageType, Sequence, Writer};
use serde_json::json;

use crate::identity::Identity;
use crate::journal::Position;

/// Where a message's number goes. Nothing before it in a line can hold quotes within a value.
const UNNUMBERED: &[u8] = b"\"sequence\":0,";

/// A message that is held until it is safe.
#[derive(Debug)]
pub(crate) enum Held {
    /// In memory only.
    Line(Box<[u8]>),
    /// In the journal, and a copy in memory.
    Copied(Box<[u8]>, Position),
    /// In the journal.
    Noted(Position),
    /// What stands for log records that are missing.
    Gap(Box<Gap>),
}

/// Log records that are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gap {
    /// The first one's count in its lane.
    pub(crate) first: u64,
    /// The last one's; the marker takes its number.
    pub(crate) last: u64,
    /// How many.
    pub(crate) dropped: u64,
    /// Why.
    pub(crate) cause: GapCause,
    /// When it was told of.
    pub(crate) at: Timestamp,
}

/// Why log records are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GapCause {
    /// There was no room.
    Overflow,
    /// Redis lost them; or a sidecar dropped them, and was killed before it could say so.
    Lost,
}

impl Held {
    /// What is in the journal needs no copy in memory any more.
    pub(crate) fn forget_copy(&mut self) {
        if let Self::Copied(_, position) = *self {
            *self = Self::Noted(position);
        }
    }
}

/// A message's line without a number.
pub(crate) fn unnumbered(message: &Message) -> Box<[u8]> {
    debug_assert_eq!(message.sequence, Sequence::NONE);
    message.to_line().into()
}

/// The line with its number; none if it is no such line.
pub(crate) fn numbered(line: &[u8], number: Sequence) -> Option<Vec<u8>> {
    let at = line.windows(UNNUMBERED.len()).position(|window| window == UNNUMBERED)?;
    let (before, after) = line.split_at(at + UNNUMBERED.len() - 2);
    let number = number.to_string();
    let mut line = Vec::with_capacity(line.len() + number.len());
    line.extend_from_slice(before);
    line.extend_from_slice(number.as_bytes());
    line.extend_from_slice(&after[1..]);
    Some(line)
}

impl Gap {
    /// The log record that tells of the gap. `number` says which number a count is.
    pub(crate) fn line(&self, identity: &Identity, number: impl Fn(u64) -> Sequence) -> Vec<u8> {
        let (verb, reason) = match self.cause {
            GapCause::Overflow => ("dropped", "overflow"),
            GapCause::Lost => ("missing", "lost"),
        };
        let text = format!("… {} log records {verb} …", self.dropped);
        let (first, last) = (number(self.first), number(self.last));
        let message = Message {
            timestamp: self.at,
            run_id: identity.run.clone(),
            variation_id: identity.variation.clone(),
            sequence: last,
            kind: MessageType::Log,
            content: Json::of(&json!({ "message": text })),
            metadata: Json::of(&json!({ "gap": { "first": first, "last": last, "reason": reason } })),
            writer: Writer::Variation(identity.variation.clone()),
            extra: Vec::new(),
        };
        message.to_line()
    }
}

#[cfg(test)]
mod tests {
    use runcast_protocol::{RunId, VariationId};

    use super::*;
    use crate::draft::Draft;

    #[test]
    fn a_number_is_put_in_where_it_belongs_whatever_the_message_says() {
        let identity = Identity { run: RunId::new("r").unwrap(), variation: VariationId::new("v").unwrap() };
        let text = r#""sequence":0,"sequence":0,"#;
        let mut message = Draft::output(text, Json::empty_object()).into_message(&identity);
        let line = unnumbered(&message);
        message.sequence = Sequence::new(4711).unwrap();
        assert_eq!(numbered(&line, message.sequence).unwrap(), message.to_line());
        assert_eq!(numbered(b"{}", message.sequence), None);
    }
}
