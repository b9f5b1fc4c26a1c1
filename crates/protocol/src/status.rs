//! What a status message says.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where a variation, or a whole run, stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Known, and not begun.
    Pending,
    /// At work.
    Running,
    /// Ended well.
    Succeeded,
    /// Ended badly.
    Failed,
    /// Ended because somebody said so.
    Cancelled,
    /// Ended without saying how.
    Lost,
}

impl State {
    /// Whether nothing comes after it.
    pub fn is_terminal(self) -> bool {
        !matches!(self, Self::Pending | Self::Running)
    }

    /// The state's name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Lost => "lost",
        }
    }

    /// The state of a run from those of its variations: running once one has begun and while not all
    /// have ended, then the worst of them.
    pub fn of_run(variations: impl IntoIterator<Item = Self>) -> Self {
        let all: Vec<Self> = variations.into_iter().collect();
        if !all.is_empty() && all.iter().all(|state| *state == Self::Pending) {
            return Self::Pending;
        }
        let badness = |state: &Self| match state {
            Self::Succeeded => 0,
            Self::Cancelled => 1,
            Self::Failed => 2,
            Self::Lost => 3,
            Self::Running | Self::Pending => 4,
        };
        match all.into_iter().max_by_key(badness) {
            Some(worst) if worst.is_terminal() => worst,
            _ => Self::Running,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Content of a status message that a sidecar or the control-plane writes. What agents put beside
/// it in the same object is carried and ignored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The new state.
    pub state: State,
    /// Exit code of the agent's process, if it exited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Number of the signal that ended the agent's process, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How many variations the run has: it is not over before so many have ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variations: Option<u32>,
}

impl Status {
    /// A status that says only the state.
    pub fn new(state: State) -> Self {
        Self { state, exit_code: None, signal: None, reason: None, variations: None }
    }

    /// The same with a reason for people.
    #[must_use]
    pub fn because(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_as_its_worst_variation_and_running_while_one_is() {
        use State::{Cancelled, Failed, Lost, Pending, Running, Succeeded};
        assert_eq!(State::of_run([Succeeded, Succeeded]), Succeeded);
        assert_eq!(State::of_run([Succeeded, Failed, Cancelled]), Failed);
        assert_eq!(State::of_run([Lost, Failed]), Lost);
        assert_eq!(State::of_run([Lost, Running]), Running);
        assert_eq!(State::of_run([Pending, Pending]), Pending);
        assert_eq!(State::of_run([Pending, Succeeded]), Running);
        assert_eq!(State::of_run([]), Running);
    }
}
