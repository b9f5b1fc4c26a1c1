//! A lane's writer takes the lane over: from nobody, from an earlier sidecar, from another one.

use std::time::Duration;

use runcast_bus::{Appended, BusError, Durability, EntryId};
use runcast_protocol::{Batch, Sequence};
use tokio::time::sleep;

use crate::aging::SAFE_AFTER;
use crate::lane_queue::{Comparison, Standing};
use crate::safety::PATIENCE;
use crate::writer::{LaneWriter, REJECTED_RETRY};

/// Entries read at once to compare.
const PAGE: usize = 256;

/// Pause before the lane is claimed again.
const PAUSE: Duration = Duration::from_millis(200);

impl LaneWriter {
    /// Claims the lane; returns the epoch.
    pub(crate) async fn claim(&self) -> u64 {
        loop {
            match self.insist(|| self.bus.claim(&self.run, &self.lane.lane, self.pace.limits)).await {
                Appended::Done { last, epoch } => {
                    tracing::debug!(lane = %self.lane.lane, %last, epoch, "lane claimed");
                    match self.settled(last, epoch).await {
                        Ok(Some(found)) => {
                            self.take_over(last, found).await;
                            return epoch;
                        }
                        Ok(None) => {
                            tracing::debug!(lane = %self.lane.lane, "the lane has moved; claiming again");
                        }
                        Err(error) if !error.is_transient() => {
                            tracing::error!(%error, lane = %self.lane.lane, "redis does not let us read the lane (HGET, XRANGE); what it has under the numbers of what is left here is taken for ours");
                            self.take_over(last, Comparison::default()).await;
                            return epoch;
                        }
                        Err(error) => {
                            tracing::warn!(%error, lane = %self.lane.lane, "cannot compare what the lane holds with what is held here; claiming again");
                        }
                    }
                    sleep(PAUSE).await;
                }
                reply => {
                    tracing::error!(?reply, lane = %self.lane.lane, "redis refuses the claim; trying again");
                    sleep(REJECTED_RETRY).await;
                }
            }
        }
    }

    /// How what Redis has compares with what an earlier sidecar left, and stays so. None if the lane has
    /// to be claimed again.
    async fn settled(&self, last: Sequence, epoch: u64) -> Result<Option<Comparison>, BusError> {
        let Some(found) = self.compare(last, epoch).await? else { return Ok(None) };
        let Some(ours) = found.to_be_safe() else { return Ok(Some(found)) };
        let durability = self.bus.durability(&self.run).await.or_else(|error| match error {
            BusError::Rejected(_) => Ok(Durability::Aged),
            error => Err(error),
        })?;
        if durability == Durability::Aged {
            sleep(SAFE_AFTER).await;
            let again = self.compare(last, epoch).await?;
            return Ok(again.filter(|again| *again == found));
        }
        let fence = self.bus.fence(&self.run, durability, self.pace.limits.ttl, PATIENCE).await?;
        let stands = fence.lanes.get(&self.lane.lane).copied().unwrap_or_default();
        tracing::debug!(lane = %self.lane.lane, %ours, %stands, fence.confirmed, "waited for what is ours");
        Ok((fence.confirmed && stands >= last).then_some(found))
    }

    /// Compares what Redis has with what an earlier sidecar left. None if a failover took the claim.
    async fn compare(&self, last: Sequence, epoch: u64) -> Result<Option<Comparison>, BusError> {
        let mut found = Comparison::default();
        let Some(secured) = self.lane.compare_after(last) else { return Ok(Some(found)) };
        let own = self.lane.lane.channel.has_one_writer();
        let mut after = if own { EntryId::after(secured) } else { EntryId::default() };
        loop {
            let page = self.bus.read(&self.run, &self.lane.lane, after, PAGE).await?;
            if page.lane.is_none_or(|lane| lane.epoch < epoch) {
                return Ok(None);
            }
            let batches = page.batches.into_iter().filter_map(|payload| Batch::parse(payload).ok());
            for batch in batches.filter(|batch| batch.lane == self.lane.lane) {
                for entry in batch.entries.iter().filter(|entry| entry.sequence > secured) {
                    found.see(entry.sequence, self.lane.is_ours(entry.sequence, &entry.line));
                }
            }
            if page.is_last {
                return Ok(Some(found));
            }
            after = page.end;
        }
    }

    async fn take_over(&self, last: Sequence, found: Comparison) {
        let (standing, origin) = self.lane.claimed(last, found);
        match standing {
            Standing::Sound => {}
            Standing::Hole { lost } if self.lane.may_drop() => tracing::warn!(
                lane = %self.lane.lane, %last, lost,
                "messages are neither in redis nor held here: the sidecar before this one dropped them for want of room, or redis lost them"
            ),
            Standing::Hole { lost } => self.tell_hole(last, lost),
            Standing::Ahead => tracing::error!(
                lane = %self.lane.lane, %last,
                "another writer used this lane's numbers since the journal was written; what is left in the journal is numbered after theirs"
            ),
        }
        while let Err(error) = self.lane.note_origin(origin) {
            tracing::error!(%error, lane = %self.lane.lane, "cannot note in the journal where the lane begins; trying again before anything is sent");
            sleep(Duration::from_secs(1)).await;
        }
        self.lane.tell_claimed(last);
    }
}
