//! What an agent said, before it has a number.

use jiff::Timestamp;
use runcast_protocol::{Json, Message, MessageType, Sequence, Status, Writer, timestamp};

use crate::identity::Identity;

/// Bytes that a message's line has beside its content, metadata and unknown fields, about.
const ENVELOPE: usize = 200;

/// A message without its number.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft {
    /// What it is.
    pub kind: MessageType,
    /// A string for output, any JSON value elsewhere.
    pub content: Json,
    /// An object.
    pub metadata: Json,
    /// When it was said.
    pub timestamp: Timestamp,
    /// Fields that are carried and not looked into.
    pub extra: Vec<(String, Json)>,
    /// Whether its secrets were taken out already.
    pub is_clean: bool,
}

impl Draft {
    /// A message of `kind` that is said now.
    pub fn now(kind: MessageType, content: Json, metadata: Json) -> Self {
        Self { kind, content, metadata, timestamp: timestamp::now(), extra: Vec::new(), is_clean: false }
    }

    /// A piece of output that is said now, out of a stream whose secrets were taken out.
    pub fn output(text: &str, metadata: Json) -> Self {
        Self { is_clean: true, ..Self::now(MessageType::Output, Json::string(text), metadata) }
    }

    /// A status that holds from now on.
    pub fn status(status: &Status, metadata: Json) -> Self {
        Self::now(MessageType::Status, Json::of(status), metadata)
    }

    /// Bytes on the wire, about: at least what its contents take.
    pub fn size(&self) -> usize {
        let extra: usize = self.extra.iter().map(|(name, value)| name.len() + value.as_str().len()).sum();
        ENVELOPE + self.content.as_str().len() + self.metadata.as_str().len() + extra
    }

    /// The message that `identity` sends; its number is filled in when it leaves.
    pub fn into_message(self, identity: &Identity) -> Message {
        Message {
            timestamp: self.timestamp,
            run_id: identity.run.clone(),
            variation_id: identity.variation.clone(),
            sequence: Sequence::NONE,
            kind: self.kind,
            content: self.content,
            metadata: self.metadata,
            writer: Writer::Variation(identity.variation.clone()),
            extra: self.extra,
        }
    }
}
