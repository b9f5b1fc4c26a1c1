//! What the control-plane says to us, as it is read from its lane.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use runcast_protocol::{CommandId, Control, Ended, Issued, Json, Message, Sequence, Step};
use serde::Deserialize;

/// A command whose deadline passed so long ago by our own clock is not begun any more. Clocks differ,
/// and who decides that a command has expired is the control-plane.
const CLOCK_DIFFERENCE: SignedDuration = SignedDuration::from_secs(5);

/// A command for us that can be read.
#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    /// Its number in `control/@control`.
    pub sequence: Sequence,
    /// The command.
    pub issued: Issued,
    /// What its message carried beside it, such as the trace that it belongs to.
    pub metadata: Json,
}

impl Order {
    /// Whether it is too late to begin with it.
    pub(super) fn is_late(&self, now: Timestamp) -> bool {
        self.issued.deadline.saturating_add(CLOCK_DIFFERENCE).is_ok_and(|latest| latest < now)
    }
}

/// What a message of the control-plane says.
#[derive(Debug)]
pub(super) enum Said {
    /// A command was issued; if it cannot be read, why.
    Issued(CommandId, Result<Arc<Order>, String>),
    /// It came to an end.
    Ended(Step, Ended),
}

/// What can be understood of a command whose whole cannot.
#[derive(Deserialize)]
struct Unreadable {
    command: CommandId,
    step: Step,
    #[serde(default)]
    action: Option<String>,
}

/// Reads a message; none if it says nothing that we know.
pub(super) fn read(message: &Message) -> Option<Said> {
    let error = match message.content.read::<Control>() {
        Ok(Control::Issued(issued)) => {
            let (sequence, metadata) = (message.sequence, message.metadata.clone());
            let command = issued.command.clone();
            return Some(Said::Issued(command, Ok(Arc::new(Order { sequence, issued, metadata }))));
        }
        Ok(Control::Cancelled(ended)) => return Some(Said::Ended(Step::Cancelled, ended)),
        Ok(Control::Expired(ended)) => return Some(Said::Ended(Step::Expired, ended)),
        Err(error) => error,
    };
    // Of a later version, perhaps. Whoever waits for an answer gets one.
    let Ok(Unreadable { command, step: Step::Issued, action }) = message.content.read() else { return None };
    let reason = match action {
        Some(action) if !is_known(&action) => {
            let shown: String = action.chars().take(40).collect();
            format!("this sidecar knows no action {shown:?}")
        }
        _ => format!("this sidecar cannot read the command: {error}"),
    };
    Some(Said::Issued(command, Err(reason)))
}

fn is_known(action: &str) -> bool {
    ["pause", "resume", "stop", "config", "input", "custom"].contains(&action)
}
