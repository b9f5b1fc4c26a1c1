//! A lane as its writer and those who publish share it.

mod intake;
mod overflow;
mod waiting;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use opentelemetry::trace::SpanContext;
use runcast_protocol::{BatchWriter, Lane, Sequence};
use runcast_runtime::MessageTraces;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::held::{Held, numbered};
use crate::identity::Identity;
use crate::journal::{JournalError, RecoveredLane};
use crate::lane_queue::{BatchLimits, Comparison, Cut, LaneQueue, Standing};
use crate::metrics::Metrics;
use crate::publisher::LanePosition;
use crate::store::Store;

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
    pub(crate) traces: MessageTraces,
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
    /// Those of its messages that are sampled.
    pub(crate) traces: Vec<SpanContext>,
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

    /// After which number Redis, which stands at `last`, is to be compared with what is held here; none
    /// if nothing is to be compared.
    pub(crate) fn compare_after(&self, last: Sequence) -> Option<Sequence> {
        self.lock().queue.compare_after(last)
    }

    /// Whether the message that Redis has under `number` was taken here; none if that cannot be told.
    pub(crate) fn is_ours(&self, number: Sequence, theirs: &[u8]) -> Option<bool> {
        self.lock().queue.is_ours(number, |item| match item {
            // It stands for messages that may have been sent before they were dropped.
            Held::Gap(_) => None,
            item => self.line(item, number, Sequence::NONE).ok().map(|ours| ours == theirs),
        })
    }

    /// The lane is ours, and stands at `last` in Redis. Returns what that and the comparison say of what
    /// is held, and where the lane stood before its first message.
    pub(crate) fn claimed(&self, last: Sequence, found: Comparison) -> (Standing, Sequence) {
        let mut state = self.lock();
        let mut standing = Standing::Sound;
        self.let_go(&mut state, |queue| standing = queue.claimed(last, found));
        self.mark_missing(&mut state);
        (standing, state.queue.origin().unwrap_or(last))
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
                Ok((batch, traces)) => return Some(CutBatch { cut, batch, traces }),
                Err((number, why)) => {
                    tracing::error!(lane = %self.lane, %number, why, "an accepted message cannot be read from the journal any more; leaving it out");
                    self.settings.metrics.damaged.add(1, &[]);
                    self.let_go(&mut state, |queue| drop(queue.give_up(number)));
                }
            }
        }
    }

    fn write_out(
        &self,
        state: &mut State,
        cut: Cut,
    ) -> Result<(BatchWriter, Vec<SpanContext>), (Sequence, String)> {
        let mut batch = BatchWriter::default();
        let origin = state.queue.origin().unwrap_or_default();
        for (number, item) in state.queue.items_mut(cut) {
            batch.push(&self.line(item, number, origin).map_err(|why| (number, why))?);
        }
        let traces = self.settings.traces.of(batch.lines());
        Ok((batch, traces))
    }

    /// The message as it goes to Redis.
    fn line(&self, item: &Held, number: Sequence, origin: Sequence) -> Result<Vec<u8>, String> {
        let line = match item {
            Held::Line(line) | Held::Copied(line, _) => numbered(line, number),
            Held::Noted(position) => {
                let read = self.store.as_ref().map(|store| store.read(*position));
                let line = read.transpose().map_err(|error| error.to_string())?;
                line.and_then(|line| numbered(&line, number))
            }
            Held::Gap(gap) => Some(gap.line(&self.settings.identity, |count| origin.plus(count))),
        };
        line.ok_or_else(|| "not a message".to_owned())
    }

    /// Redis says where the lane stands.
    pub(crate) fn stands_at(&self, last: Sequence) -> Standing {
        let mut state = self.lock();
        let before = state.queue.appended_count();
        let standing = state.queue.stands_at(last);
        if matches!(standing, Standing::Hole { .. }) {
            self.mark_missing(&mut state);
        }
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
