//! Archiving one run: segment after segment, never more than one in memory.

use std::collections::{BTreeMap, HashMap};

use runcast_bus::{Found, Item, LaneReader, LaneState, Scan};
use runcast_protocol::{Gap, Lane, RunId, Sequence};
use tokio::time::Instant;

use super::Archiver;
use super::due::behind;
use super::watched::Watched;
use crate::archive::{ArchivedRun, Draft, Published, Segment};
use crate::error::Error;

/// So often another replica may be first before it is left to it.
const LOST: u32 = 5;

/// How far a run was archived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// All of it, and it is over. Found so by reading the log again.
    Complete,
    /// Some of it, or all of a run that goes on.
    Some,
}

/// How a draft was filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Filled {
    /// With all there is.
    All,
    /// As far as a segment goes.
    Full,
    /// With what Redis has of what it says it has: a failover lost the rest, to be sent again.
    Stuck,
}

impl Archiver {
    /// Archives what Redis has of a run up to `lanes`.
    pub(super) async fn work(
        &mut self,
        run: &RunId,
        watched: &mut Watched,
        lanes: &BTreeMap<Lane, LaneState>,
        over: bool,
    ) -> Result<Outcome, Error> {
        let mut lost = 0;
        loop {
            let archived = self.context.archive.run_now(run).await?;
            watched.archived = Some(archived.clone());
            let archived = archived.as_ref();
            if archived.is_some_and(|archived| behind(lanes, archived.cursor()).is_some()) {
                // Another one archived more meanwhile, or the id was used again: the next look tells.
                return Ok(Outcome::Some);
            }
            let mut draft = Draft::after(run, archived)?;
            recall(&mut draft, archived).await?;
            let number = archived.map_or(0, ArchivedRun::number);
            let scans = watched.scans.take().filter(|(of, _)| *of == number).map(|(_, scans)| scans);
            let mut scans = scans.unwrap_or_default();
            let filled = self.fill(run, &mut draft, lanes, &mut scans).await?;
            let complete = over && filled == Filled::All;
            if draft.is_empty() && (!complete || archived.is_some_and(ArchivedRun::is_complete)) {
                watched.scans = Some((number, scans));
                return Ok(if complete { Outcome::Complete } else { Outcome::Some });
            }
            match self.context.archive.publish(draft, complete).await? {
                Published::Done(segment) => {
                    watched.scans = Some((number + 1, scans));
                    watched.archived_some();
                    self.count(run, number + 1, segment.as_ref(), complete);
                }
                Published::Lost => {
                    self.context.metrics.archive_conflicts.add(1, &[]);
                    lost += 1;
                }
            }
            self.sweep(run).await;
            if filled == Filled::Stuck || lost == LOST {
                return Ok(Outcome::Some);
            }
            // What is to be let go is read once more: the round ends with nothing new to be said. It takes
            // long where there is much of it, so Redis is told before.
            self.protect(run, over && !complete).await?;
            self.context.bus.take_archiving(run, &self.name, self.turn()).await?;
        }
    }

    /// Reads what follows in each lane, until the segment is full.
    async fn fill(
        &self,
        run: &RunId,
        draft: &mut Draft,
        lanes: &BTreeMap<Lane, LaneState>,
        scans: &mut HashMap<Lane, Scan>,
    ) -> Result<Filled, Error> {
        let mut filled = Filled::All;
        let mut taken = Instant::now();
        for (lane, LaneState { last, .. }) in lanes {
            if draft.position(lane) >= *last {
                continue;
            }
            let scan = scans.get(lane).copied().unwrap_or_default();
            let mut reader = LaneReader::new(lane.clone(), draft.position(lane), scan);
            while reader.position() < *last {
                if draft.raw_bytes() >= self.config.segment_bytes.as_u64() {
                    scans.insert(lane.clone(), reader.scan());
                    return Ok(Filled::Full);
                }
                if taken.elapsed() > self.turn() / 3 {
                    self.context.bus.take_archiving(run, &self.name, self.turn()).await?;
                    taken = Instant::now();
                }
                let Found::Items(items) = reader.page(&self.context.bus, run, *last).await? else {
                    filled = Filled::Stuck;
                    break;
                };
                self.add(run, draft, lane, items)?;
            }
            scans.insert(lane.clone(), reader.scan());
        }
        Ok(filled)
    }

    fn add(&self, run: &RunId, draft: &mut Draft, lane: &Lane, items: Vec<Item>) -> Result<(), Error> {
        let mut entries = Vec::with_capacity(items.len());
        for item in items {
            match item {
                Item::Message(entry) => entries.push(entry),
                Item::Gap(gap) => {
                    draft.push(lane, &std::mem::take(&mut entries))?;
                    self.tell(run, &gap);
                    draft.lack(gap);
                }
            }
        }
        Ok(draft.push(lane, &entries)?)
    }

    fn tell(&self, run: &RunId, gap: &Gap) {
        self.context.metrics.archive_gaps.add(1, &[]);
        let Gap { lane, first, last, reason } = gap;
        tracing::error!(
            %run, %lane, %first, %last, ?reason,
            "messages were gone from redis before they were archived: raise its streams' length limit, or \
             lower archive.segment_age"
        );
    }

    fn count(&self, run: &RunId, number: u64, segment: Option<&Segment>, complete: bool) {
        let metrics = &self.context.metrics;
        let (rows, bytes) = segment.map_or((0, 0), |segment| (segment.rows, segment.raw_bytes));
        metrics.archived_messages.add(rows, &[]);
        metrics.archived_bytes.add(bytes, &[]);
        metrics.archived_segments.add(u64::from(segment.is_some()), &[]);
        metrics.archived_runs.add(u64::from(complete), &[]);
        tracing::info!(%run, commit = number, messages = rows, bytes, complete, "archived");
    }
}

/// Has the draft's read model know what is archived, where it was written by a version that it cannot read.
async fn recall(draft: &mut Draft, archived: Option<&ArchivedRun>) -> Result<(), Error> {
    let Some(archived) = archived else { return Ok(()) };
    if archived.summary().cursor() != &runcast_protocol::Cursor::default() {
        return Ok(());
    }
    for (lane, _) in archived.cursor().lanes() {
        let mut position = Sequence::NONE;
        loop {
            let entries = archived.after(&lane, position).await?;
            let Some(last) = entries.last() else { break };
            position = last.sequence;
            draft.recall(&lane, &entries);
        }
    }
    Ok(())
}
