//! What is remembered of a run from one look to the next. All of it can be learnt anew.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use runcast_bus::{Bus, Found, Item, LaneReader, LaneState, Scan};
use runcast_protocol::{Channel, Cursor, Lane, RunId, RunState, Sequence};
use tokio::time::Instant;

use crate::archive::ArchivedRun;
use crate::error::Error;

/// What a message is taken to weigh before one was seen, in bytes.
const GUESS: u64 = 256;

/// What is remembered of a run.
#[derive(Debug, Default)]
pub(super) struct Watched {
    /// What the archive had when it was last asked; the outer none: not asked yet.
    pub(super) archived: Option<Option<ArchivedRun>>,
    state: RunState,
    status: HashMap<Lane, LaneReader>,
    /// Since when there is something that is not archived.
    behind: Option<Instant>,
    /// How many messages were not archived when one of them was last weighed, and the bytes of each.
    weighed: Option<(u64, u64)>,
    /// How far shared streams were searched when the commit of this number was made.
    pub(super) scans: Option<(u64, HashMap<Lane, Scan>)>,
    /// Since when Redis has less of it than the archive.
    pub(super) short_since: Option<Instant>,
    /// That its id was used again has been told.
    pub(super) told_reused: bool,
    /// Its time to live has been cut, since all of it is archived.
    pub(super) released: bool,
}

impl Watched {
    /// How far the run is archived, as far as is known.
    pub(super) fn cursor(&self) -> Cursor {
        self.known().map(|archived| archived.cursor().clone()).unwrap_or_default()
    }

    pub(super) fn known(&self) -> Option<&ArchivedRun> {
        self.archived.as_ref()?.as_ref()
    }

    /// For how long something has not been archived.
    pub(super) fn age(&mut self, messages: u64) -> Duration {
        if messages == 0 {
            self.behind = None;
            self.weighed = None;
            return Duration::ZERO;
        }
        self.behind.get_or_insert_with(Instant::now).elapsed()
    }

    /// Begins to count the age anew, after a commit.
    pub(super) fn archived_some(&mut self) {
        self.behind = None;
        self.weighed = None;
    }

    /// Reads what the run's status lanes say up to `lanes`; whether the run is over.
    pub(super) async fn is_over(
        &mut self,
        bus: &Bus,
        run: &RunId,
        lanes: &BTreeMap<Lane, LaneState>,
    ) -> Result<bool, Error> {
        for (lane, upto) in lanes {
            if let Some(variation) = lane.writer.variation() {
                self.state.learn(variation);
            }
            if lane.channel == Channel::Status {
                self.read_status(bus, run, lane, upto.last).await?;
            }
        }
        Ok(self.state.state().is_terminal())
    }

    async fn read_status(
        &mut self,
        bus: &Bus,
        run: &RunId,
        lane: &Lane,
        upto: Sequence,
    ) -> Result<(), Error> {
        if !self.status.contains_key(lane) {
            let mut position = Sequence::NONE;
            if let Some(archived) = self.archived.as_ref().and_then(Option::as_ref) {
                loop {
                    let entries = archived.after(lane, position).await?;
                    let Some(last) = entries.last() else { break };
                    position = last.sequence;
                    self.state.apply(lane, &entries);
                }
            }
            self.status.insert(lane.clone(), LaneReader::new(lane.clone(), position, Scan::default()));
        }
        let Some(reader) = self.status.get_mut(lane) else { return Ok(()) };
        while reader.position() < upto {
            let Found::Items(items) = reader.page(bus, run, upto).await? else { break };
            let entries: Vec<_> = items.into_iter().filter_map(message).collect();
            self.state.apply(lane, &entries);
        }
        Ok(())
    }

    /// About how many bytes the messages have that are not archived. Weighed by a page of the lane that has
    /// the most of them, and again when they have doubled.
    pub(super) async fn bytes(
        &mut self,
        bus: &Bus,
        run: &RunId,
        lanes: &BTreeMap<Lane, LaneState>,
        messages: u64,
    ) -> Result<u64, Error> {
        if let Some((count, each)) = self.weighed
            && messages < count.saturating_mul(2)
        {
            return Ok(messages.saturating_mul(each));
        }
        let cursor = self.cursor();
        let lack =
            |lane: &Lane, state: &LaneState| state.last.get().saturating_sub(cursor.position(lane).get());
        let longest = lanes.iter().max_by_key(|(lane, state)| lack(lane, state));
        let mut each = GUESS;
        if let Some((lane, state)) = longest {
            let mut reader = LaneReader::new(lane.clone(), cursor.position(lane), Scan::default());
            if let Found::Items(items) = reader.page(bus, run, state.last).await? {
                let entries: Vec<_> = items.into_iter().filter_map(message).collect();
                let bytes: u64 = entries.iter().map(|entry| entry.line.len() as u64).sum();
                each = bytes.checked_div(entries.len() as u64).unwrap_or(GUESS).max(1);
            }
        }
        self.weighed = Some((messages, each));
        Ok(messages.saturating_mul(each))
    }
}

fn message(item: Item) -> Option<runcast_protocol::Entry> {
    match item {
        Item::Message(entry) => Some(entry),
        Item::Gap(_) => None,
    }
}
