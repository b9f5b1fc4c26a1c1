//! The message: one JSON object.

use std::borrow::Cow;
use std::fmt;

use jiff::Timestamp;
use serde::de::{self, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::json::brief;
use crate::merge::FIRST_SEQUENCE;
use crate::{Channel, Json, Lane, RunId, Sequence, VariationId, Writer};

/// What a message is; each type travels on its own channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MessageType {
    /// Text that the agent says.
    Output,
    /// A log record.
    Log,
    /// Where the variation stands, see [`crate::Status`].
    Status,
    /// A measurement.
    Metric,
    /// A command, or a message between agents.
    Control,
    /// An answer to a command.
    Ack,
}

impl MessageType {
    /// The channel that carries messages of this type.
    pub fn channel(self) -> Channel {
        match self {
            Self::Output => Channel::Output,
            Self::Log => Channel::Logs,
            Self::Status => Channel::Status,
            Self::Metric => Channel::Metrics,
            Self::Control => Channel::Control,
            Self::Ack => Channel::Acks,
        }
    }
}

/// One message. On the wire a JSON object on one line with always these fields; unknown fields
/// survive a round trip in [`Message::extra`].
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// When it was said: UTC, microseconds.
    pub timestamp: Timestamp,
    /// The run it belongs to.
    pub run_id: RunId,
    /// The variation it is about; its sidecar is the writer unless [`Message::writer`] says otherwise.
    pub variation_id: VariationId,
    /// Its number in its lane.
    pub sequence: Sequence,
    /// What it is.
    pub kind: MessageType,
    /// A string for output, any JSON value elsewhere.
    pub content: Json,
    /// An object; `traceparent` and `tracestate` travel here (W3C Trace Context).
    pub metadata: Json,
    /// Who numbered it. On the wire only where that is not the variation's own sidecar: a shared
    /// stream must tell the control-plane's lane from the variations'.
    pub writer: Writer,
    /// Fields this version does not know, as they came.
    pub extra: Vec<(String, Json)>,
}

/// Why a JSON object is not a message.
#[derive(Debug, thiserror::Error)]
#[error("not a message: {}", brief(.0))]
pub struct MessageError(serde_json::Error);

impl Message {
    /// Reads a message from its JSON text.
    ///
    /// # Errors
    /// [`MessageError`] if a field is missing, of the wrong type, or given twice.
    pub fn parse(text: &[u8]) -> Result<Self, MessageError> {
        serde_json::from_slice(text).map_err(MessageError)
    }

    /// The message as JSON on one line, without a line end.
    pub fn to_line(&self) -> Vec<u8> {
        let mut line = Vec::with_capacity(self.content.as_str().len() + 256);
        serde_json::to_writer(&mut line, self).expect("messages are made of JSON types");
        line
    }

    /// Sequence of the first message that it stands for: its own, unless it was [merged](crate::merge).
    pub fn first_sequence(&self) -> Sequence {
        let merged = self.extra.iter().find(|(name, _)| name == FIRST_SEQUENCE);
        merged.and_then(|(_, first)| first.read().ok()).unwrap_or(self.sequence)
    }

    /// The lane it is numbered in.
    pub fn lane(&self) -> Lane {
        Lane { channel: self.kind.channel(), writer: self.writer.clone() }
    }
}

impl Serialize for Message {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("timestamp", &timestamp::Text(self.timestamp))?;
        map.serialize_entry("run_id", &self.run_id)?;
        map.serialize_entry("variation_id", &self.variation_id)?;
        map.serialize_entry("sequence", &self.sequence)?;
        map.serialize_entry("type", &self.kind)?;
        map.serialize_entry("content", &self.content)?;
        map.serialize_entry("metadata", &self.metadata)?;
        if self.writer.variation() != Some(&self.variation_id) {
            map.serialize_entry("writer", self.writer.as_str())?;
        }
        for (name, value) in &self.extra {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Message {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MessageVisitor)
    }
}

struct MessageVisitor;

impl<'de> Visitor<'de> for MessageVisitor {
    type Value = Message;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a message object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Message, A::Error> {
        fn once<'de, A: MapAccess<'de>, T: Deserialize<'de>>(
            map: &mut A,
            slot: &mut Option<T>,
            name: &'static str,
        ) -> Result<(), A::Error> {
            if slot.replace(map.next_value()?).is_some() {
                return Err(de::Error::duplicate_field(name));
            }
            Ok(())
        }

        let (mut timestamp, mut run_id, mut variation_id, mut sequence) = (None, None, None, None);
        let (mut kind, mut content, mut metadata) = (None, None, None);
        let mut writer: Option<Cow<'_, str>> = None;
        let mut extra = Vec::new();
        while let Some(name) = map.next_key::<Cow<'_, str>>()? {
            match &*name {
                "timestamp" => once(&mut map, &mut timestamp, "timestamp")?,
                "run_id" => once(&mut map, &mut run_id, "run_id")?,
                "variation_id" => once(&mut map, &mut variation_id, "variation_id")?,
                "sequence" => once(&mut map, &mut sequence, "sequence")?,
                "type" => once(&mut map, &mut kind, "type")?,
                "content" => once(&mut map, &mut content, "content")?,
                "metadata" => once(&mut map, &mut metadata, "metadata")?,
                "writer" => once(&mut map, &mut writer, "writer")?,
                _ => extra.push((name.into_owned(), map.next_value()?)),
            }
        }
        let missing = |name| de::Error::missing_field(name);
        let kind = kind.ok_or_else(|| missing("type"))?;
        let variation_id: VariationId = variation_id.ok_or_else(|| missing("variation_id"))?;
        let content: Json = content.ok_or_else(|| missing("content"))?;
        let metadata: Json = metadata.ok_or_else(|| missing("metadata"))?;
        if kind == MessageType::Output && !content.is_string() {
            return Err(de::Error::custom("the content of output is a string"));
        }
        if !metadata.is_object() {
            return Err(de::Error::custom("metadata is an object"));
        }
        let writer = match writer {
            Some(name) => name.parse().map_err(de::Error::custom)?,
            None => Writer::Variation(variation_id.clone()),
        };
        let timestamp: timestamp::Text = timestamp.ok_or_else(|| missing("timestamp"))?;
        Ok(Message {
            timestamp: timestamp.0,
            run_id: run_id.ok_or_else(|| missing("run_id"))?,
            variation_id,
            sequence: sequence.ok_or_else(|| missing("sequence"))?,
            kind,
            content,
            metadata,
            writer,
            extra,
        })
    }
}

/// What a carrier needs of a message: whose it is and where it stands. Reading only this is several
/// times cheaper than reading all of it, and the bytes are passed on as they came.
#[derive(Debug, Deserialize)]
pub struct MessageHead<'a> {
    #[serde(rename = "variation_id", borrow)]
    variation: Cow<'a, str>,
    /// Its number in its lane.
    pub sequence: Sequence,
    /// What it is.
    #[serde(rename = "type")]
    pub kind: MessageType,
    #[serde(borrow, default, deserialize_with = "given")]
    writer: Option<Cow<'a, str>>,
}

/// Reads a field that is there. Null is not a name, although `Option` alone would take it for none.
fn given<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Cow<'a, str>>, D::Error> {
    Cow::deserialize(deserializer).map(Some)
}

impl<'a> MessageHead<'a> {
    /// Reads the head of a message from its JSON text.
    ///
    /// # Errors
    /// [`MessageError`] if it is not JSON, or lacks one of the fields.
    pub fn parse(text: &'a [u8]) -> Result<Self, MessageError> {
        // serde would take an array of the fields' values for the object.
        if !text.trim_ascii_start().starts_with(b"{") {
            return Err(MessageError(de::Error::custom("a message is an object")));
        }
        serde_json::from_slice(text).map_err(MessageError)
    }

    /// The variation that the message is about, unchecked.
    pub fn variation(&self) -> &str {
        &self.variation
    }

    /// The writer's name, unchecked: the variation unless the message says otherwise.
    pub fn writer(&self) -> &str {
        self.writer.as_ref().unwrap_or(&self.variation)
    }
}

/// Time on the wire: RFC 3339, UTC, microseconds.
pub mod timestamp {
    use super::{Cow, Deserialize, Deserializer, Serialize, Serializer, Timestamp, de};

    /// A timestamp that is written as `2026-01-10T10:30:00.123456Z`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Text(pub Timestamp);

    /// Now, cut to the microseconds that the wire carries.
    pub fn now() -> Timestamp {
        cut(Timestamp::now())
    }

    fn cut(time: Timestamp) -> Timestamp {
        Timestamp::from_microsecond(time.as_microsecond()).unwrap_or(time)
    }

    impl std::fmt::Display for Text {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "{:.6}", self.0)
        }
    }

    impl Serialize for Text {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_str(self)
        }
    }

    impl<'de> Deserialize<'de> for Text {
        /// Takes any offset; finer digits than microseconds are cut.
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let text = Cow::<str>::deserialize(deserializer)?;
            let time = text.parse().map_err(|_| de::Error::custom("timestamp is not RFC 3339"))?;
            Ok(Self(cut(time)))
        }
    }
}
