//! Commands to agents, what becomes of them, and what agents write to one another.
//!
//! A command's life is a log over two channels of its run. The control-plane writes `control/@control`:
//! that a command was issued (one message for each variation it is for, all in one batch), and that it
//! was cancelled or has expired. The variation's sidecar writes `acks/<variation>`: all the rest. Two
//! writers could tell two endings, so:
//!
//! * The control-plane ends a command only while the variation's acks lane stands where it has read it,
//!   and found no ending there. Whoever finds such an entry knows that no ending precedes it: it is the
//!   one that counts, and what the sidecar says afterwards comes too late.
//! * A sidecar hands a command over only after its `delivered` is in Redis, and after it has then read
//!   the control stream to its end without finding the command ended. So what was ended before it was
//!   delivered never reaches the agent.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{CommandId, Sequence, VariationId, timestamp};

/// What an agent is to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "lowercase")]
pub enum Action {
    /// Stand still until told to resume.
    Pause,
    /// Go on.
    Resume,
    /// End.
    Stop {
        /// How long the agent may take by itself before it is killed, in milliseconds.
        grace_ms: u64,
    },
    /// Change the configuration.
    Config {
        /// JSON merge patch (RFC 7396).
        patch: Value,
    },
    /// Take text from a person.
    Input {
        /// The text, as it is to arrive: a line ends only where it says so.
        text: String,
    },
    /// Whatever the agent understands.
    Custom {
        /// What the agent calls it.
        name: String,
        /// Its argument.
        #[serde(default)]
        payload: Value,
    },
}

impl Action {
    /// The action's name on the wire.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Stop { .. } => "stop",
            Self::Config { .. } => "config",
            Self::Input { .. } => "input",
            Self::Custom { .. } => "custom",
        }
    }
}

/// How far a command has come with one variation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// It stands in the control stream.
    Issued,
    /// The sidecar hands it to the agent.
    Delivered,
    /// The agent will do it.
    Accepted,
    /// The agent, or its sidecar, will not do it.
    Rejected,
    /// It is done.
    Applied,
    /// It was tried and did not succeed.
    Failed,
    /// Its deadline passed before it came to another end.
    Expired,
    /// It was called back before it was delivered.
    Cancelled,
}

impl Step {
    /// Whether nothing comes after it.
    pub fn is_terminal(self) -> bool {
        !matches!(self, Self::Issued | Self::Delivered | Self::Accepted)
    }

    /// The step's name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Issued => "issued",
            Self::Delivered => "delivered",
            Self::Accepted => "accepted",
            Self::Rejected => "rejected",
            Self::Applied => "applied",
            Self::Failed => "failed",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Content of a control message that the control-plane writes; the message's variation is the one it is
/// for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "lowercase")]
pub enum Control {
    /// A command was issued.
    Issued(Issued),
    /// It was called back.
    Cancelled(Ended),
    /// Its deadline passed.
    Expired(Ended),
}

/// A command, as it was issued.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Issued {
    /// The command: the same for all the variations it is for, and in a repeat.
    pub command: CommandId,
    /// What is to be done.
    #[serde(flatten)]
    pub action: Action,
    /// When it expires, unless it came to an end before.
    #[serde(with = "wire_time")]
    pub deadline: Timestamp,
    /// Who sent it, as far as the control-plane knows.
    pub caller: String,
    /// The caller's idempotency key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Whether it was for all variations, whichever they were then, and not for some by name.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub everyone: bool,
}

/// The control-plane's ending of a command with one variation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// The command.
    pub command: CommandId,
    /// Where the variation's acks lane stood: nothing up to there ended the command.
    pub acks: Sequence,
    /// Who called it back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller: Option<String>,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Content of an ack message: what became of a command with the variation that says so.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ack {
    /// The command.
    pub command: CommandId,
    /// [`Step::Delivered`], accepted, rejected, applied or failed.
    pub step: Step,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What came of it, for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
}

/// Content of a control message that an agent writes to others of its run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Letter {
    /// For whom; none for all the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<VariationId>,
    /// What it says.
    pub payload: Value,
}

/// Merges a patch into a document, as RFC 7396 §2 has it.
pub fn merge_patch(document: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *document = patch.clone();
        return;
    };
    if !document.is_object() {
        *document = Value::Object(serde_json::Map::new());
    }
    let Value::Object(fields) = document else { return };
    for (name, change) in changes {
        if change.is_null() {
            fields.remove(name);
        } else {
            merge_patch(fields.entry(name).or_insert(Value::Null), change);
        }
    }
}

mod wire_time {
    use super::{Timestamp, timestamp};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        timestamp::Text(*time).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        Ok(timestamp::Text::deserialize(deserializer)?.0)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn patches_merge_as_in_the_appendix_of_rfc_7396() {
        for (document, patch, merged) in [
            (json!({"a":"b"}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"b"}), json!({"b":"c"}), json!({"a":"b","b":"c"})),
            (json!({"a":"b"}), json!({"a":null}), json!({})),
            (json!({"a":"b","b":"c"}), json!({"a":null}), json!({"b":"c"})),
            (json!({"a":["b"]}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"c"}), json!({"a":["b"]}), json!({"a":["b"]})),
            (json!({"a":{"b":"c"}}), json!({"a":{"b":"d","c":null}}), json!({"a":{"b":"d"}})),
            (json!({"a":[{"b":"c"}]}), json!({"a":[1]}), json!({"a":[1]})),
            (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
            (json!({"a":"b"}), json!(["c"]), json!(["c"])),
            (json!({"a":"foo"}), json!(null), json!(null)),
            (json!({"a":"foo"}), json!("bar"), json!("bar")),
            (json!({"e":null}), json!({"a":1}), json!({"e":null,"a":1})),
            (json!([1, 2]), json!({"a":"b","c":null}), json!({"a":"b"})),
            (json!({}), json!({"a":{"bb":{"ccc":null}}}), json!({"a":{"bb":{}}})),
        ] {
            let mut result = document.clone();
            merge_patch(&mut result, &patch);
            assert_eq!(result, merged, "{document} with {patch}");
        }
    }

    #[test]
    fn a_command_reads_as_it_was_written() {
        let issued = Control::Issued(Issued {
            command: CommandId::new("c1").unwrap(),
            action: Action::Stop { grace_ms: 5000 },
            deadline: "2026-01-10T10:30:00.5Z".parse().unwrap(),
            caller: "anna".into(),
            request_id: None,
            everyone: false,
        });
        let text = serde_json::to_string(&issued).unwrap();
        assert_eq!(
            text,
            r#"{"step":"issued","command":"c1","action":"stop","grace_ms":5000,"deadline":"2026-01-10T10:30:00.500000Z","caller":"anna"}"#
        );
        assert_eq!(serde_json::from_str::<Control>(&text).unwrap(), issued);
        let text = r#"{"step":"issued","command":"c1","action":"custom","name":"n","deadline":"2026-01-10T10:30:00Z","caller":""}"#;
        assert!(matches!(
            serde_json::from_str(text).unwrap(),
            Control::Issued(Issued { action: Action::Custom { payload: Value::Null, .. }, .. })
        ));
        let ack = r#"{"command":"c1","step":"applied","result":{"processes":2}}"#;
        assert_eq!(serde_json::to_string(&serde_json::from_str::<Ack>(ack).unwrap()).unwrap(), ack);
    }
}
