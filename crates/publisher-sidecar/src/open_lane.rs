//! A lane as its writer and those who publish share it.

use std::cell::Cell;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use runcast_protocol::{BatchWriter, Channel, Lane, Sequence, timestamp};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep};

use crate::held::{Gap, Held, numbered};
use crate::identity::Identity;
use crate::journal::{JournalError, RecoveredLane};
use crate::lane_queue::{BatchLimits, Cut, LaneQueue, Standing};
use crate::metrics::Metrics;
use crate::publisher::LanePosition;
use crate::store::Store;

/// With a journal, as much of what waits to be appended is kept in memory too; the rest is read back.
const COPIED_BYTES: usize = 1 << 20;

/// How often somebody who waits for room looks by himself: a disk that is full tells nobody.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// How often it is said again that there is no room.
const TELL_AGAIN: Duration = Duration::from_secs(5);

/// What is done with a message for which there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Overflow {
    /// The agent waits.
    Wait,
    /// The oldest messages that were never sent go, and a marker takes their place.
    DropOldest,
    /// All but the latest go.
    KeepLatest,
}

impl Overflow {
    pub(crate) fn of(channel: Channel) -> Self {
        match channel {
            Channel::Logs => Self::DropOldest,
            Channel::Metrics => Self::KeepLatest,
            Channel::Output | Channel::Status | Channel::Control | Channel::Acks => Self::Wait,
        }
    }
}

/// What all of a sidecar's lanes have in common.
#[derive(Debug, Clone)]
pub(crate) struct LaneSettings {
    pub(crate) identity: Identity,
    pub(crate) batch: BatchLimits,
    /// Most bytes held without a journal.
    pub(crate) max_bytes: usize,
    /// Appended counts as safe: for experiments.
    pub(crate) forget_appended: bool,
    /// Wakes the task that finds out what is safe.
    pub(crate) exposed: Arc<Notify>,
    pub(crate) metrics: Metrics,
}

/// A lane's queue, and ways to wait for it to move.
#[derive(Debug)]
pub(crate) struct OpenLane {
    pub(crate) lane: Lane,
    settings: LaneSettings,
    store: Option<Arc<Store>>,
    state: Mutex<State>,
    /// Wakes the writer.
    work: Notify,
    /// Wakes those who wait for the claim, for room or for the end: bumped by the writer.
    moved: watch::Sender<()>,
}

#[derive(Debug)]
struct State {
    queue: LaneQueue<Held>,
    /// Nothing more is taken.
    closed: bool,
    /// The writer is to ask Redis where the lane stands.
    doubted: bool,
    /// Where the lane stood in Redis when it was claimed.
    claimed_at: Option<Sequence>,
    /// When it was last said that there is no room.
    told: Option<Instant>,
}

/// The lane takes nothing more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Closed;

/// What is to be appended next.
#[derive(Debug)]
pub(crate) struct CutBatch {
    pub(crate) cut: Cut,
    pub(crate) batch: BatchWriter,
}

/// What the writer wants to know before it goes to sleep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Backlog {
    /// Something can be appended.
    pub(crate) waiting: bool,
    /// A full batch can.
    pub(crate) full: bool,
    /// Somebody doubts where the lane stands.
    pub(crate) doubted: bool,
}

impl OpenLane {
    pub(crate) fn new(
        lane: Lane,
        settings: LaneSettings,
        store: Option<Arc<Store>>,
        left: Option<RecoveredLane>,
    ) -> Self {
        let max_bytes = if store.is_some() { usize::MAX } else { settings.max_bytes };
        let queue = left.map_or_else(|| LaneQueue::new(max_bytes), |left| resume(max_bytes, left));
        let state = State { queue, closed: false, doubted: false, claimed_at: None, told: None };
        let (work, moved) = (Notify::new(), watch::Sender::new(()));
        Self { lane, settings, store, state: Mutex::new(state), work, moved }
    }

    /// Takes a message's line without its number; waits for room if it must. Returns its count, see
    /// [`LaneQueue::number`].
    pub(crate) async fn push(&self, line: Box<[u8]>) -> Result<u64, Closed> {
        self.push_if(line, false).await
    }

    /// Takes one last message, though the lane is closed.
    pub(crate) async fn push_last(&self, line: Box<[u8]>) {
        // It is closed already: nothing to be told.
        let _ = self.push_if(line, true).await;
    }

    async fn push_if(&self, mut line: Box<[u8]>, last: bool) -> Result<u64, Closed> {
        match self.try_push(line, last)? {
            Ok(count) => return Ok(count),
            Err(back) => line = back,
        }
        let mut moved = self.moved.subscribe();
        let mut room = self.store.as_ref().map_or_else(|| self.moved.subscribe(), |store| store.moved());
        loop {
            match self.try_push(line, last)? {
                Ok(count) => return Ok(count),
                Err(back) => line = back,
            }
            tokio::select! {
                _ = moved.changed() => {}
                _ = room.changed() => {}
                () = sleep(LOOK_AGAIN) => {}
            }
        }
    }

    fn try_push(&self, line: Box<[u8]>, last: bool) -> Result<Result<u64, Box<[u8]>>, Closed> {
        let mut state = self.lock();
        if state.closed && !last {
            return Err(Closed);
        }
        let pushed = match &self.store {
            Some(store) => self.push_noted(&mut state, store, line),
            None => self.push_kept(&mut state, line, last),
        };
        // The writer sleeps until there is something to send, then until a batch is full.
        let queue = &state.queue;
        let wake = last || queue.pending() == 1 || queue.has_full_batch(self.settings.batch);
        drop(state);
        if pushed.is_ok() && wake {
            self.work.notify_one();
        }
        Ok(pushed)
    }

    fn push_kept(&self, state: &mut State, line: Box<[u8]>, last: bool) -> Result<u64, Box<[u8]>> {
        let size = line.len();
        if !last && !state.queue.has_room(size) {
            if Overflow::of(self.lane.channel) == Overflow::Wait {
                self.tell_full(state, &"queue.max_bytes is used up");
                return Err(line);
            }
            self.give_up_oldest(state, size, self.settings.max_bytes);
        }
        Ok(state.queue.push_over(Held::Line(line), size))
    }

    fn push_noted(&self, state: &mut State, store: &Store, line: Box<[u8]>) -> Result<u64, Box<[u8]>> {
        let (channel, size) = (self.lane.channel, line.len());
        loop {
            let error = match store.append(channel, &line) {
                Ok(recorded) => {
                    let copied = state.queue.pending_bytes() + size <= COPIED_BYTES;
                    let position = recorded.position;
                    let held = if copied { Held::Copied(line, position) } else { Held::Noted(position) };
                    let count = state.queue.push_over(held, size);
                    debug_assert_eq!(count, recorded.count, "journal and queue count alike");
                    return Ok(count);
                }
                Err(error) => error,
            };
            let limit = usize::try_from(store.limit).unwrap_or(usize::MAX);
            let full = matches!(error, JournalError::Full { .. });
            let waits = Overflow::of(channel) == Overflow::Wait;
            if !full || waits || !self.give_up_oldest(state, size, limit) {
                self.tell_full(state, &error);
                return Err(line);
            }
        }
    }

    /// Makes room for `size` bytes where it may be made, an eighth of `limit` at once. Returns whether
    /// there was anything to give up.
    fn give_up_oldest(&self, state: &mut State, size: usize, limit: usize) -> bool {
        let overflow = Overflow::of(self.lane.channel);
        let bytes = if overflow == Overflow::KeepLatest { usize::MAX } else { size.max(limit / 8) };
        let (first_lost, lost, dropped) = (Cell::new(None), Cell::new(0), Cell::new(0));
        let count_in = |item| match item {
            Held::Gap(gap) => {
                first_lost.set(Some(gap.first));
                lost.set(lost.get() + gap.dropped);
            }
            _ => dropped.set(dropped.get() + 1),
        };
        let given_up = state.queue.give_up_oldest(bytes, count_in, |first, last| {
            let first = first_lost.get().unwrap_or(first);
            let gap = Gap { first, last, dropped: lost.get() + dropped.get(), at: timestamp::now() };
            (overflow == Overflow::DropOldest).then(|| (Held::Gap(Box::new(gap)), 0))
        });
        let Some((_, last)) = given_up else { return false };
        self.settings.metrics.dropped(self.lane.channel, dropped.get());
        if let Some(store) = &self.store {
            // What was sent before them is in their way: from now on it is held in memory.
            for item in state.queue.sent_items_mut() {
                hold_in_memory(item, store);
            }
            store.safe(self.lane.channel, last);
        }
        let dropped = dropped.get();
        self.tell_full(state, &format_args!("{dropped} of the oldest that were never sent are dropped"));
        true
    }

    /// Most bytes of a message: one that fills the journal could never be noted.
    pub(crate) fn max_message(&self) -> usize {
        // Room for the entry around it and the segment's head.
        self.store
            .as_ref()
            .map_or(usize::MAX, |store| usize::try_from(store.limit - 2048).unwrap_or(usize::MAX))
    }

    fn tell_full(&self, state: &mut State, why: &dyn std::fmt::Display) {
        if state.told.is_none_or(|told| told.elapsed() > TELL_AGAIN) {
            state.told = Some(Instant::now());
            tracing::warn!(lane = %self.lane, pending = state.queue.pending(), %why, "no room for what the agent says");
        }
    }

    /// Takes nothing more from now on.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.moved.send_replace(());
    }

    pub(crate) fn backlog(&self) -> Backlog {
        let state = &self.lock();
        let (waiting, doubted) = (state.queue.is_ready(), state.doubted);
        Backlog { waiting, full: waiting && state.queue.has_full_batch(self.settings.batch), doubted }
    }

    /// The number of the message that was taken as the `count`th; waits for the claim.
    pub(crate) async fn number(&self, count: u64) -> Sequence {
        self.wait(|state| state.queue.number(count)).await
    }

    /// Where the lane stood in Redis when it was claimed; waits for that.
    pub(crate) async fn claimed_at(&self) -> Sequence {
        self.wait(|state| state.claimed_at).await
    }

    /// Waits until all that was taken so far is in Redis.
    pub(crate) async fn flushed(&self) {
        let target = self.lock().queue.taken();
        self.wait(|state| state.queue.has_appended(target).then_some(())).await;
    }

    /// Waits until all that was taken so far is safe.
    pub(crate) async fn secured(&self) {
        let target = self.lock().queue.taken();
        self.wait(|state| (state.queue.safe_count() >= target).then_some(())).await;
    }

    pub(crate) fn position(&self) -> LanePosition {
        let queue = &self.lock().queue;
        LanePosition {
            taken: queue.last(),
            appended: queue.appended(),
            safe: queue.secured(),
            pending: queue.pending(),
            exposed: queue.exposed(),
            bytes: queue.bytes(),
        }
    }

    async fn wait<T>(&self, ready: impl Fn(&State) -> Option<T>) -> T {
        let mut moved = self.moved.subscribe();
        loop {
            if let Some(value) = ready(&self.lock()) {
                return value;
            }
            let _ = moved.changed().await;
        }
    }

    /// The lane is ours, and stands at `last` in Redis. Returns what that says of what is held, and
    /// where the lane stood before its first message.
    pub(crate) fn claimed(&self, last: Sequence) -> (Standing, Sequence) {
        let mut state = self.lock();
        let standing = state.queue.claimed(last);
        if standing == Standing::Ahead {
            state.queue.renumber(last);
        }
        let origin = state.queue.origin().unwrap_or(last);
        drop(state);
        (standing, origin)
    }

    /// Notes the origin; until that is done nothing may be appended.
    pub(crate) fn note_origin(&self, origin: Sequence) -> Result<(), JournalError> {
        self.store.as_ref().map_or(Ok(()), |store| store.origin(self.lane.channel, origin))
    }

    /// Tells everyone who waits for it that the lane was claimed and stood at `last`.
    pub(crate) fn tell_claimed(&self, last: Sequence) {
        self.lock().claimed_at = Some(last);
        self.settings.exposed.notify_one();
        self.moved.send_replace(());
    }

    /// The next messages as a batch of at most so many; none if there are none.
    pub(crate) fn next_batch(&self, messages: usize) -> Option<CutBatch> {
        let mut state = self.lock();
        let limits = BatchLimits { messages, ..self.settings.batch };
        loop {
            let cut = state.queue.cut(limits)?;
            match self.write_out(&mut state, cut) {
                Ok(batch) => return Some(CutBatch { cut, batch }),
                Err((number, why)) => {
                    tracing::error!(lane = %self.lane, %number, why, "an accepted message cannot be read from the journal any more; leaving it out");
                    self.settings.metrics.damaged.add(1, &[]);
                    self.let_go(&mut state, |queue| drop(queue.give_up(number)));
                }
            }
        }
    }

    fn write_out(&self, state: &mut State, cut: Cut) -> Result<BatchWriter, (Sequence, String)> {
        let mut batch = BatchWriter::default();
        let origin = state.queue.origin().unwrap_or_default();
        for (number, item) in state.queue.items_mut(cut) {
            let line = match item {
                Held::Line(line) | Held::Copied(line, _) => numbered(line, number),
                Held::Noted(position) => {
                    let read = self.store.as_ref().map(|store| store.read(*position));
                    let line = read.transpose().map_err(|error| (number, error.to_string()))?;
                    line.and_then(|line| numbered(&line, number))
                }
                Held::Gap(gap) => Some(gap.line(&self.settings.identity, |count| origin.plus(count))),
            };
            batch.push(&line.ok_or_else(|| (number, "not a message".to_owned()))?);
        }
        Ok(batch)
    }

    /// Redis says where the lane stands.
    pub(crate) fn stands_at(&self, last: Sequence) -> Standing {
        let mut state = self.lock();
        let before = state.queue.appended_count();
        let standing = state.queue.stands_at(last);
        state.queue.unsafe_items_mut(before).for_each(Held::forget_copy);
        if self.settings.forget_appended {
            self.let_go(&mut state, |queue| queue.secure(last));
        }
        let exposed = state.queue.exposed() > 0;
        drop(state);
        if exposed {
            self.settings.exposed.notify_one();
        }
        self.moved.send_replace(());
        standing
    }

    /// What is in Redis up to `last` is safe there.
    pub(crate) fn secure(&self, last: Sequence) {
        self.let_go(&mut self.lock(), |queue| queue.secure(last));
        self.moved.send_replace(());
        // A batch after a hole may have waited for it.
        self.work.notify_one();
    }

    /// A message can never be sent.
    pub(crate) fn give_up(&self, number: Sequence) {
        self.let_go(&mut self.lock(), |queue| drop(queue.give_up(number)));
        self.settings.exposed.notify_one();
        self.moved.send_replace(());
    }

    fn let_go(&self, state: &mut State, change: impl FnOnce(&mut LaneQueue<Held>)) {
        let before = state.queue.safe_count();
        change(&mut state.queue);
        let safe = state.queue.safe_count();
        if safe > before
            && let Some(store) = &self.store
        {
            store.safe(self.lane.channel, safe);
        }
    }

    /// Where Redis was known to stand, if anything is there that is not known to be safe.
    pub(crate) fn exposed(&self) -> Option<Sequence> {
        let queue = &self.lock().queue;
        queue.stands().filter(|_| queue.exposed() > 0)
    }

    /// Makes the writer ask Redis where the lane stands.
    pub(crate) fn doubt(&self) {
        self.lock().doubted = true;
        self.work.notify_one();
    }

    /// Redis is being asked.
    pub(crate) fn doubt_no_more(&self) {
        self.lock().doubted = false;
    }

    /// Waits until something was pushed that the writer may want to know of.
    pub(crate) async fn work(&self) {
        self.work.notified().await;
    }

    // A panic while holding the lock leaves the queue usable: every operation is one step.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an earlier sidecar left; what was lost to damage is a hole.
fn resume(max_bytes: usize, mut left: RecoveredLane) -> LaneQueue<Held> {
    let messages = (left.safe + 1..=left.taken).map(|count| {
        let recorded = left.messages.front().copied().filter(|recorded| recorded.count == count)?;
        left.messages.pop_front();
        Some((Held::Noted(recorded.position), recorded.position.length as usize))
    });
    LaneQueue::resumed(max_bytes, left.origin, left.safe, messages)
}

fn hold_in_memory(item: &mut Held, store: &Store) {
    match item {
        Held::Copied(line, _) => *item = Held::Line(std::mem::take(line)),
        Held::Noted(position) => {
            // If it cannot be read now, it cannot be later, and then it is told.
            if let Ok(line) = store.read(*position) {
                *item = Held::Line(line[..].into());
            }
        }
        Held::Line(_) | Held::Gap(_) => {}
    }
}
