//! Reading a lane's past a page at a time: from its stream and, where that has lost some of it, from
//! what the archive lends.

mod recall;

use std::time::Duration;

use runcast_protocol::{Batch, Entry, Gap, GapReason, Lane, Placement, RunId, Sequence, place};

use crate::lane_reader::recall::Missing;
use crate::{Bus, BusError, EntryId, Page, ParsedPage};

/// What a page should weigh, in bytes: the number of entries asked for follows from it.
const PAGE_BYTES: usize = 256 << 10;
/// How long to wait before asking again for what Redis knew of but does not have, or if it cannot
/// be asked.
pub const PAUSE: Duration = Duration::from_millis(200);
/// Most entries of a page.
const PAGE_ENTRIES: usize = 256;
/// Entries of a page as long as nothing is known of their size.
pub const FIRST_ENTRIES: usize = 32;

/// A place in a lane's past, to be read onwards from.
#[derive(Debug, Clone)]
pub struct LaneReader {
    lane: Lane,
    position: Sequence,
    scan: Scan,
    entries: usize,
    malformed: bool,
    /// What the stream has lost, until it is recalled or told as a gap.
    missing: Option<Missing>,
}

/// How far a stream was searched for a lane's messages.
///
/// In a shared stream this holds only as long as the last entry that was seen is still there: the server
/// that a failover promoted may number new entries lower than the one before numbered those it lost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scan {
    /// The last entry that was seen.
    after: EntryId,
    /// What it held: a lost one's ID may be given again.
    held: u64,
}

/// What comes next in a lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A message.
    Message(Entry),
    /// Messages that can no longer be had.
    Gap(Gap),
}

/// What a page held.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// What comes next; empty if the page held only other lanes' messages: read on.
    Items(Vec<Item>),
    /// Redis has nothing more now, although more was known to exist: its tail was lost in a
    /// failover and will be sent again, or all of it is gone.
    NotYet,
}

impl LaneReader {
    /// Begins after `position`; `scan` is where an earlier reader of a shared stream ended.
    pub fn new(lane: Lane, position: Sequence, scan: Scan) -> Self {
        Self { lane, position, scan, entries: FIRST_ENTRIES, malformed: false, missing: None }
    }

    /// The lane it reads.
    pub fn lane(&self) -> &Lane {
        &self.lane
    }

    /// The last sequence that was read or told as a gap.
    pub fn position(&self) -> Sequence {
        self.position
    }

    /// How far the stream was searched, for the next reader of the same lane.
    pub fn scan(&self) -> Scan {
        self.scan
    }

    /// Reads the next page, not beyond `upto`, which is known to exist or to have existed. What Redis
    /// has lost is told as a gap; if `bus` asks the past, only if that lacks it too. That may take seconds; a
    /// call that is given up is taken up by the next one.
    ///
    /// # Errors
    /// [`BusError`] if Redis cannot be asked; nothing has changed then.
    pub async fn page(&mut self, bus: &Bus, run: &RunId, upto: Sequence) -> Result<Found, BusError> {
        if bus.past_wait.is_none() {
            return self.page_of_redis(bus, run, upto).await;
        }
        if self.missing.is_none() {
            let (after, entries) = self.wants();
            let page = bus.read(run, &self.lane, after, entries).await?;
            if let Some(found) = self.turn_up_to_loss(&ParsedPage::of(&self.lane, page), upto) {
                return Ok(found);
            }
        }
        self.recall(bus, run).await
    }

    /// The same from Redis alone: for who must not wait.
    ///
    /// # Errors
    /// [`BusError`] if Redis cannot be asked; nothing has changed then.
    pub async fn page_of_redis(&mut self, bus: &Bus, run: &RunId, upto: Sequence) -> Result<Found, BusError> {
        let (after, entries) = self.wants();
        let page = bus.read(run, &self.lane, after, entries).await?;
        Ok(self.turn(page, upto))
    }

    /// The entry after which the next page is read, and the number of entries of it.
    pub fn wants(&self) -> (EntryId, usize) {
        if self.lane.channel.has_one_writer() {
            (self.scan.after.max(EntryId::after(self.position)), self.entries)
        } else {
            // With the last one that was seen.
            (self.scan.after.previous(), self.entries + 1)
        }
    }

    /// Takes in the page that it wants. Pure.
    pub fn turn(&mut self, page: Page, upto: Sequence) -> Found {
        self.turn_parsed(&ParsedPage::of(&self.lane, page), upto)
    }

    /// Takes in a page that others may take in too: it begins with, or in a stream with one writer before,
    /// the entry that it wants. Pure.
    pub fn turn_parsed(&mut self, page: &ParsedPage, upto: Sequence) -> Found {
        let own = self.lane.channel.has_one_writer();
        let seen = usize::from(!own && self.scan != Scan::default());
        if seen > 0 && page.batches.first().map(|batch| batch.held) != Some(self.scan.held) {
            self.scan = Scan::default();
            return Found::Items(Vec::new());
        }
        self.fit(page);

        let mut items = Vec::new();
        for parsed in page.batches.iter().skip(seen) {
            match &parsed.batch {
                Some(batch) if batch.lane == self.lane => self.take(batch, upto, &mut items),
                Some(_) if !own => {}
                Some(_) | None => self.malformed = true,
            }
        }
        if self.position >= upto {
            // A page that was cut at `upto` may hold more for a later call with a higher one.
            return Found::Items(items);
        }
        self.scan = Scan { after: page.end, held: page.batches.last().map_or(0, |batch| batch.held) };
        if page.is_last {
            let tail = page.stood_at(&self.lane).unwrap_or(Sequence::NONE);
            if tail > self.position {
                // The stream and the bookkeeping were read at one instant: what the one counts and
                // the other lacks is gone.
                self.lose(tail.min(upto), GapReason::Evicted, &mut items);
            } else if items.is_empty() {
                self.scan = Scan::default();
                return Found::NotYet;
            }
        }
        Found::Items(items)
    }

    /// Whether something is missing that was not told yet: [`LaneReader::recall`] comes next, not a page.
    pub fn is_missing(&self) -> bool {
        self.missing.is_some()
    }

    /// Forgets how far the stream was searched, so as to look again from where the lane's messages may begin.
    pub fn search_anew(&mut self) {
        self.scan = Scan::default();
    }

    fn take(&mut self, batch: &Batch, upto: Sequence, items: &mut Vec<Item>) {
        if self.position >= upto {
            return;
        }
        if place(self.position, batch) == Placement::Ahead {
            self.lose(batch.first().previous().min(upto), GapReason::Trimmed, items);
        }
        if let Placement::Next(entries) = place(self.position, batch) {
            let wanted = entries.iter().take_while(|entry| entry.sequence <= upto);
            items.extend(wanted.cloned().map(Item::Message));
            self.position = batch.last().min(upto);
        }
    }

    fn lose(&mut self, last: Sequence, reason: GapReason, items: &mut Vec<Item>) {
        let reason = if std::mem::take(&mut self.malformed) { GapReason::Malformed } else { reason };
        let gap = Gap { lane: self.lane.clone(), first: self.position.next(), last, reason };
        self.position = last;
        items.push(Item::Gap(gap));
    }

    /// Asks for more entries the next time if these were small, for fewer if they were large.
    fn fit(&mut self, page: &ParsedPage) {
        if let Some(average) = page.average() {
            self.entries = entries_of(average);
        }
    }
}

/// How many entries of so many bytes make a page.
pub fn entries_of(average: usize) -> usize {
    (PAGE_BYTES / average.max(1)).clamp(1, PAGE_ENTRIES)
}
