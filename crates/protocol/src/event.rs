//! Events that a viewer sees: the messages themselves, and a few of Runcast's own.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Json, Lane, MessageType, RunId, Sequence, State, VariationId};

/// Name of an SSE event. Never `error`: EventSource would raise it as a connection error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventName {
    /// A message, by its type.
    Message(MessageType),
    /// What a lane said so far, at once; data is a [`Snapshot`].
    Snapshot,
    /// Messages that can no longer be had; data is a [`Gap`].
    Gap,
    /// Where a stream that skips history begins; data is a [`Start`].
    Start,
    /// The stream is over; data is an [`End`] if the run is, or [`Dismissed`].
    End,
}

impl EventName {
    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Message(MessageType::Output) => "output",
            Self::Message(MessageType::Log) => "log",
            Self::Message(MessageType::Status) => "status",
            Self::Message(MessageType::Metric) => "metric",
            Self::Message(MessageType::Control) => "control",
            Self::Message(MessageType::Ack) => "ack",
            Self::Snapshot => "snapshot",
            Self::Gap => "gap",
            Self::Start => "start",
            Self::End => "end",
        }
    }
}

/// Why messages can no longer be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GapReason {
    /// The stream's length limit dropped them; what follows is still there.
    Trimmed,
    /// The stream is gone as a whole: evicted, expired or deleted.
    Evicted,
    /// What Redis holds there cannot be read as messages.
    Malformed,
}

/// Messages `first` to `last` of `lane` can no longer be had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// The lane they were in.
    pub lane: Lane,
    /// The first that is missing.
    pub first: Sequence,
    /// The last that is missing.
    pub last: Sequence,
    /// Why.
    pub reason: GapReason,
}

/// What `lane` holds from `first` to `last`, at once: the text of an output lane, or the last
/// message of a status lane.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The lane.
    pub lane: Lane,
    /// Sequence of the first message that it stands for.
    pub first: Sequence,
    /// Sequence of the last message that it stands for.
    pub last: Sequence,
    /// The joined content of an output lane.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The last message of a status lane.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<Json>,
}

/// Where a stream that skips history begins. Its id lets a viewer that is cut off before the first
/// message come back to the same place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// What the viewer asked for: `now` or `snapshot`.
    pub from: String,
}

/// The viewer may not watch any longer. Data of an `end`, as [`End`] is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dismissed {
    /// What has become of its token: `expired` or `revoked`.
    pub reason: String,
}

/// The run, or what the viewer watches of it, is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// The run.
    pub run_id: RunId,
    /// The worst of the variations' states.
    pub state: State,
    /// How each variation ended.
    pub variations: BTreeMap<VariationId, State>,
}
