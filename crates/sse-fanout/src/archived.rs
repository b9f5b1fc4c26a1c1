//! What a feed knows of its run from the archive, if Redis knows nothing of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use runcast_bus::{Asking, Bus, LaneState};
use runcast_protocol::{Lane, PastRun, RunId};
use tokio::time::Instant;

/// A run that nobody knows is asked for at most so often, however many wait for it.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// What a feed knows of its run from the archive.
#[derive(Debug, Default)]
pub struct Archived {
    asking: Option<Asking<PastRun>>,
    asked_at: Option<Instant>,
    known: Option<Arc<PastRun>>,
}

impl Archived {
    /// Asks for the run, unless it is known, or was asked for just now.
    pub fn ask(&mut self, bus: &Bus, run: &RunId) {
        let lately = self.asked_at.is_some_and(|at| at.elapsed() < ASK_AGAIN);
        if self.known.is_none() && self.asking.is_none() && !lately {
            self.asking = Some(bus.past_run(run));
        }
    }

    /// Whether an answer is still to come.
    pub fn is_asked(&self) -> bool {
        self.asking.is_some()
    }

    /// The answer, once it comes; none if it is that nothing is archived, or nobody gives one. Waits for
    /// ever if nothing was asked. May be given up at any time, and called again.
    pub async fn answer(&mut self) -> Option<Arc<PastRun>> {
        let Some(asking) = &mut self.asking else { return std::future::pending().await };
        let answer = asking.answer().await;
        self.asking = None;
        self.asked_at = Some(Instant::now());
        answer.unwrap_or_else(|error| {
            tracing::debug!(%error, "could not ask what is archived; trying later");
            None
        })
    }

    /// What is known, if anything is.
    pub fn known(&self) -> Option<Arc<PastRun>> {
        self.known.clone()
    }

    /// Takes what was answered as known.
    pub fn learn(&mut self, past: Arc<PastRun>) {
        self.known = Some(past);
    }

    /// Whether Redis now has a run of that name that was begun anew: it stands, in some lane, before
    /// where the archive knows it to have been.
    pub fn is_another_than(&self, lanes: &BTreeMap<Lane, LaneState>) -> bool {
        let before =
            |past: &Arc<PastRun>| lanes.iter().any(|(lane, state)| state.last < past.cursor.position(lane));
        self.known.as_ref().is_some_and(before)
    }

    /// Forgets what is known: it is of another run.
    pub fn forget(&mut self) {
        self.known = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_goes_on_is_told_from_one_that_begins_anew() {
        let mut archived = Archived::default();
        let lanes = |positions: &[(&str, u64)]| {
            let state = |&(lane, last): &(&str, u64)| {
                (lane.parse().unwrap(), LaneState { last: last.try_into().unwrap(), epoch: 1 })
            };
            positions.iter().map(state).collect()
        };
        assert!(!archived.is_another_than(&lanes(&[("output/a", 1)])));
        let cursor = "a:9.0.2".parse().unwrap();
        archived.learn(Arc::new(PastRun { cursor, ..PastRun::default() }));
        assert!(!archived.is_another_than(&lanes(&[])));
        assert!(!archived.is_another_than(&lanes(&[("output/a", 9), ("status/a", 3), ("logs/b", 1)])));
        assert!(archived.is_another_than(&lanes(&[("output/a", 9), ("status/a", 1)])));
        archived.forget();
        assert!(!archived.is_another_than(&lanes(&[("status/a", 1)])));
    }
}
