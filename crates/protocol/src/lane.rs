//! Channels, writers and lanes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{MessageType, VariationId};

/// One of a run's kinds of traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Channel {
    /// What the agent says: text.
    Output,
    /// What the agent reports about its work.
    Logs,
    /// Where a variation stands: running, succeeded, ….
    Status,
    /// Measurements.
    Metrics,
    /// Commands to agents, and messages between them.
    Control,
    /// What agents answered to commands.
    Acks,
}

impl Channel {
    /// All channels, in the fixed order that cursors use.
    pub const ALL: [Self; 6] =
        [Self::Output, Self::Logs, Self::Status, Self::Metrics, Self::Control, Self::Acks];

    /// The channel's name in keys, lanes and queries.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Output => "output",
            Self::Logs => "logs",
            Self::Status => "status",
            Self::Metrics => "metrics",
            Self::Control => "control",
            Self::Acks => "acks",
        }
    }

    /// The type of the messages that the channel carries.
    pub fn message_type(self) -> MessageType {
        match self {
            Self::Output => MessageType::Output,
            Self::Logs => MessageType::Log,
            Self::Status => MessageType::Status,
            Self::Metrics => MessageType::Metric,
            Self::Control => MessageType::Control,
            Self::Acks => MessageType::Ack,
        }
    }

    /// Whether each variation has a stream of its own, whose entry IDs are sequences; the other
    /// channels share one stream a run among all writers.
    pub fn has_one_writer(self) -> bool {
        matches!(self, Self::Output | Self::Logs)
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Text that names no lane or channel.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidLane(String);

impl FromStr for Channel {
    type Err = InvalidLane;
    fn from_str(text: &str) -> Result<Self, InvalidLane> {
        Self::ALL.into_iter().find(|channel| channel.as_str() == text).ok_or_else(|| {
            let shown: String = text.chars().take(40).collect();
            let names = Self::ALL.map(Self::as_str).join(", ");
            InvalidLane(format!("channel {shown:?} does not exist: use one of {names}"))
        })
    }
}

/// Who numbers a lane's messages.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Writer {
    /// The control-plane, written `@control`.
    Control,
    /// The variation's own sidecar.
    Variation(VariationId),
}

impl Writer {
    const CONTROL: &'static str = "@control";

    /// The writer's name in lanes and cursors.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Control => Self::CONTROL,
            Self::Variation(id) => id.as_str(),
        }
    }

    /// The variation, if the writer is one's sidecar.
    pub fn variation(&self) -> Option<&VariationId> {
        match self {
            Self::Control => None,
            Self::Variation(id) => Some(id),
        }
    }
}

impl fmt::Display for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Writer {
    type Err = InvalidLane;
    fn from_str(text: &str) -> Result<Self, InvalidLane> {
        if text == Self::CONTROL {
            return Ok(Self::Control);
        }
        Ok(Self::Variation(VariationId::new(text)?))
    }
}

/// What one writer puts on one channel, e.g. `output/var-1` or `status/@control`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lane {
    /// The kind of traffic.
    pub channel: Channel,
    /// Who numbers it.
    pub writer: Writer,
}

impl Lane {
    /// The lane of a variation's own sidecar on `channel`.
    pub fn of(channel: Channel, variation: &VariationId) -> Self {
        Self { channel, writer: Writer::Variation(variation.clone()) }
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.channel, self.writer)
    }
}

impl FromStr for Lane {
    type Err = InvalidLane;
    fn from_str(text: &str) -> Result<Self, InvalidLane> {
        let (channel, writer) = text.split_once('/').ok_or_else(|| {
            let shown: String = text.chars().take(40).collect();
            InvalidLane(format!("lane {shown:?} is not of the form channel/writer"))
        })?;
        Ok(Self { channel: channel.parse()?, writer: writer.parse()? })
    }
}

impl Serialize for Lane {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Lane {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

impl From<crate::InvalidId> for InvalidLane {
    fn from(error: crate::InvalidId) -> Self {
        Self(error.to_string())
    }
}
