//! What is read and being read of one stream.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::future::{BoxFuture, Shared, WeakShared};
use runcast_bus::{BusError, EntryId, FIRST_ENTRIES, entries_of};
use runcast_protocol::Lane;
use tokio::time::Instant;

use crate::pages::SharedPage;

/// Pages that begin before what is asked for and are looked at, the nearest first.
const NEARBY: usize = 4;

pub(super) type Answer = Result<Arc<SharedPage>, BusError>;
type Reading = BoxFuture<'static, Answer>;

/// What somebody asks for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub(super) after: EntryId,
    pub(super) not_before: Option<Instant>,
    /// How old a page may be.
    pub(super) keep: Duration,
}

/// What there is for him.
pub(super) enum Asking {
    Kept(Arc<SharedPage>),
    Reading(Shared<Reading>),
}

/// What is asked of Redis.
#[derive(Debug, Clone)]
pub(super) struct Question {
    pub(super) start: EntryId,
    pub(super) count: usize,
    /// When the same was read before, if it was lately.
    pub(super) read_before: Option<Instant>,
    /// Set when the read begins: until then whoever comes may wait for it too.
    began: Arc<OnceLock<Instant>>,
}

impl Question {
    pub(super) fn begins_now(&self) -> Instant {
        *self.began.get_or_init(Instant::now)
    }
}

/// What is read and being read of one stream, by the entry that it follows.
#[derive(Debug)]
pub(super) struct Stream {
    /// Its IDs are the sequences of one lane: a page may serve whoever stands in the midst of it. Of the
    /// others it serves those who stand at its beginning, and all begin with the first.
    has_one_writer: bool,
    /// Entries that make a page, as far as is known.
    entries: usize,
    slots: BTreeMap<EntryId, Slot>,
}

struct Slot {
    question: Question,
    page: Page,
}

enum Page {
    Kept(Arc<SharedPage>),
    Reading(WeakShared<Reading>),
}

impl Stream {
    pub(super) fn of(lane: &Lane) -> Self {
        let has_one_writer = lane.channel.has_one_writer();
        Self { has_one_writer, entries: FIRST_ENTRIES, slots: BTreeMap::new() }
    }

    /// A page that serves who asks, read or being read.
    pub(super) fn find(&self, asked: &Asked) -> Option<Asking> {
        if !self.has_one_writer {
            return self.slots.get(&asked.after)?.serve(asked);
        }
        let before = self.slots.range((Bound::Unbounded, Bound::Included(asked.after)));
        let mut nearby = before.rev().take(NEARBY).filter(|(_, slot)| slot.covers(asked.after));
        nearby.find_map(|(_, slot)| slot.serve(asked))
    }

    /// Begins to read a page that serves who asks.
    pub(super) fn ask(&mut self, asked: &Asked, read: impl FnOnce(Question) -> Reading) -> Asking {
        use futures_util::FutureExt;
        // Those who stand close to each other begin with the same entry; since each holds a message at
        // least, the page has more of them than lie before what is asked for.
        let step = u64::try_from(self.entries / 2).unwrap_or(u64::MAX).max(1);
        let start = if self.has_one_writer { asked.after.round_down(step) } else { asked.after };
        let (count, began) = (self.entries.max(2), Arc::default());
        let read_before = self.slots.get(&start).and_then(|slot| slot.question.began.get().copied());
        let question = Question { start, count, read_before, began };
        let reading = read(question.clone()).shared();
        if let Some(weak) = reading.downgrade() {
            self.slots.insert(start, Slot { question, page: Page::Reading(weak) });
        }
        Asking::Reading(reading)
    }

    /// Keeps what was read, unless it was forgotten or asked for anew meanwhile.
    pub(super) fn keep(&mut self, question: &Question, page: &Arc<SharedPage>) -> bool {
        if let Some(average) = page.page.average() {
            self.entries = entries_of(average);
        }
        let slot = self.slots.get_mut(&question.start);
        let Some(slot) = slot.filter(|slot| Arc::ptr_eq(&slot.question.began, &question.began)) else {
            return false;
        };
        slot.page = Page::Kept(page.clone());
        true
    }

    /// Lets go of a page, if it is the one that was read then, and of reads that nobody waits for. Whether
    /// nothing is left.
    pub(super) fn let_go(&mut self, start: EntryId, read_at: Instant) -> bool {
        self.slots.retain(|at, slot| match &slot.page {
            Page::Kept(page) => *at != start || page.read_at != read_at,
            Page::Reading(reading) => reading.upgrade().is_some(),
        });
        self.slots.is_empty()
    }
}

impl Slot {
    /// Whether it holds the entry that comes next after this one, if the stream has one.
    fn covers(&self, after: EntryId) -> bool {
        match &self.page {
            Page::Kept(page) => page.page.is_last || page.page.end > after,
            Page::Reading(_) => {
                after.time() - self.question.start.time() < u64::try_from(self.question.count).unwrap_or(0)
            }
        }
    }

    fn serve(&self, asked: &Asked) -> Option<Asking> {
        let fits = |read_at: Instant| asked.not_before.is_none_or(|time| read_at >= time);
        match &self.page {
            Page::Kept(page) if fits(page.read_at) && page.read_at.elapsed() < asked.keep => {
                Some(Asking::Kept(page.clone()))
            }
            Page::Kept(_) => None,
            // One that has not begun will begin after he asked.
            Page::Reading(reading) if self.question.began.get().is_none_or(|&began| fits(began)) => {
                Some(Asking::Reading(reading.upgrade()?))
            }
            Page::Reading(_) => None,
        }
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let page = match self.page {
            Page::Kept(_) => "kept",
            Page::Reading(_) => "being read",
        };
        f.debug_struct("Slot").field("question", &self.question).field("page", &page).finish()
    }
}
