//! Finds out which appended messages are safe, so that they need not be held any longer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use runcast_bus::{Bus, BusError, Durability, Fenced as Fence};
use runcast_protocol::{Lane, RunId, Sequence};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use crate::aging::Aging;
use crate::gate::Gate;
use crate::open_lane::OpenLane;
use crate::writer::Fenced;

/// How often Redis is asked while anything is not known to be safe.
const EVERY: Duration = Duration::from_millis(150);

/// How long Redis may wait for a replica or the disk before it says that it cannot confirm.
pub(crate) const PATIENCE: Duration = Duration::from_millis(200);

/// How long it is believed how messages become safe; a replica may come or go.
const ASK_AGAIN: Duration = Duration::from_secs(3);

/// How often what Redis rejects for good is tried again: somebody may mend the permissions.
const REJECTED_RETRY: Duration = Duration::from_secs(5);

/// The task that asks.
pub(crate) struct Safety {
    pub(crate) run: RunId,
    /// A connection of its own: while Redis waits for a replica, it answers nothing else on it.
    pub(crate) bus: Bus,
    pub(crate) gate: Gate,
    pub(crate) lanes: Vec<Arc<OpenLane>>,
    /// Woken when something was appended.
    pub(crate) exposed: Arc<Notify>,
    /// The bookkeeping's time to live, renewed by asking.
    pub(crate) ttl: Duration,
}

impl Safety {
    /// Asks for ever.
    pub(crate) async fn run(self) -> Fenced {
        let since = Instant::now();
        let mut aging: BTreeMap<Lane, Aging> = BTreeMap::new();
        let mut known: Option<(Durability, Instant)> = None;
        // WAIT or INFO may be forbidden to us; appending is not.
        let mut may_ask = true;
        loop {
            if self.lanes.iter().all(|lane| lane.exposed().is_none()) {
                self.exposed.notified().await;
            }
            sleep(EVERY).await;
            let exposed: Vec<_> =
                self.lanes.iter().filter_map(|lane| Some((lane, lane.exposed()?))).collect();
            if exposed.is_empty() {
                continue;
            }
            let leave = self.gate.pass().await;
            let asked = self.ask(&mut known, may_ask).await;
            let (durability, fence) = match asked {
                Ok(found) => found,
                Err(error) => {
                    known = None;
                    if error.is_transient() {
                        leave.failed();
                        tracing::debug!(%error, "cannot ask what is safe; asking again");
                    } else {
                        leave.succeeded();
                        may_ask = self.tell_rejected(&error, may_ask).await;
                    }
                    continue;
                }
            };
            leave.succeeded();
            if durability != Durability::Aged && !fence.confirmed {
                known = None;
            }
            for (lane, stood) in exposed {
                let position = fence.lanes.get(&lane.lane).copied().unwrap_or_default();
                if position < stood {
                    // A tail was lost. The writer asks for itself, and sends again what is missing.
                    lane.doubt();
                }
                match durability {
                    Durability::Aged => {
                        let aging = aging.entry(lane.lane.clone()).or_default();
                        let safe = aging.see(since.elapsed(), position);
                        if safe > Sequence::NONE {
                            lane.secure(safe);
                        }
                    }
                    Durability::Replicated | Durability::Fsynced if fence.confirmed => lane.secure(position),
                    Durability::Replicated | Durability::Fsynced => {}
                }
            }
        }
    }

    async fn ask(
        &self,
        known: &mut Option<(Durability, Instant)>,
        may_ask: bool,
    ) -> Result<(Durability, Fence), BusError> {
        let durability = match *known {
            _ if !may_ask => Durability::Aged,
            Some((durability, asked)) if asked.elapsed() < ASK_AGAIN => durability,
            _ => {
                let durability = self.bus.durability(&self.run).await?;
                *known = Some((durability, Instant::now()));
                durability
            }
        };
        Ok((durability, self.bus.fence(&self.run, durability, self.ttl, PATIENCE).await?))
    }

    /// Returns whether it may be asked how messages become safe.
    async fn tell_rejected(&self, error: &BusError, may_ask: bool) -> bool {
        if may_ask {
            tracing::warn!(%error, "redis does not let us ask what is replicated or synced (INFO, WAIT, WAITAOF); taking for safe what is 2 s old");
        } else {
            tracing::error!(%error, "redis does not let us ask where the lanes stand (EXPIRE, HGETALL): nothing is known to be safe, and all is held; trying again every 5 s");
            sleep(REJECTED_RETRY).await;
        }
        false
    }
}
