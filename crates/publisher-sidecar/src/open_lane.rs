//! A lane as its writer and those who publish share it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use runcast_protocol::{Lane, Message, Sequence};
use tokio::sync::{Notify, watch};

use crate::lane_queue::{BatchLimits, LaneQueue};
use crate::publisher::LanePosition;
use crate::store::{Held, NoRoom, Store};

/// A lane's queue, and ways to wait for it to move.
#[derive(Debug)]
pub(crate) struct OpenLane {
    pub(crate) lane: Lane,
    limits: BatchLimits,
    store: Store,
    /// Messages that an earlier sidecar left in the journal, safe ones included.
    inherited: u64,
    state: Mutex<State>,
    /// Wakes the writer.
    work: Notify,
    /// Wakes those who wait for the claim, for room or for the end: bumped by the writer.
    moved: watch::Sender<()>,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) queue: LaneQueue<Held>,
    /// Nothing more is taken.
    closed: bool,
    /// Redis should be asked soon where the lane stands.
    probe: bool,
}

/// The lane takes nothing more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Closed;

impl OpenLane {
    pub(crate) fn new(lane: Lane, limits: BatchLimits, store: Store, queue: LaneQueue<Held>) -> Self {
        let inherited = queue.taken();
        let state = Mutex::new(State { queue, closed: false, probe: false });
        Self { lane, limits, store, inherited, state, work: Notify::new(), moved: watch::Sender::new(()) }
    }

    /// Takes a message; waits for room if the queue or the journal is full. Returns its count, see
    /// [`LaneQueue::number`].
    pub(crate) async fn push(&self, message: Message, size: usize) -> Result<u64, Closed> {
        let mut message = match self.try_push(Box::new(message), size)? {
            Ok(count) => return Ok(count),
            Err(NoRoom(back)) => back,
        };
        let mut moved = self.moved.subscribe();
        loop {
            match self.try_push(message, size)? {
                Ok(count) => return Ok(count),
                Err(NoRoom(back)) => message = back,
            }
            // The sender lives in self.
            let _ = moved.changed().await;
        }
    }

    fn try_push(&self, message: Box<Message>, size: usize) -> Result<Result<u64, NoRoom>, Closed> {
        let mut state = self.lock();
        if state.closed {
            return Err(Closed);
        }
        if !state.queue.has_room(size) {
            return Ok(Err(NoRoom(message)));
        }
        // Under the lane's lock, so that the journal counts as the queue does.
        let held = match self.store.keep(self.lane.channel, message, state.queue.pending_bytes()) {
            Ok(held) => held,
            Err(back) => return Ok(Err(back)),
        };
        let count = state.queue.push_over(held, size);
        // The writer sleeps until there is something to send, then until a batch is full.
        let wake = state.queue.pending() == 1 || state.queue.has_full_batch(self.limits);
        drop(state);
        if wake {
            self.work.notify_one();
        }
        Ok(Ok(count))
    }

    /// Takes nothing more from now on.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.moved.send_replace(());
    }

    /// Takes one last message, though the lane is closed and whether or not there is room.
    pub(crate) fn push_last(&self, message: Message, size: usize) {
        let mut state = self.lock();
        let pending = state.queue.pending_bytes();
        let kept = self.store.keep(self.lane.channel, Box::new(message), pending);
        let held = kept.unwrap_or_else(|NoRoom(message)| Held::Memory(message));
        state.queue.push_over(held, size);
        drop(state);
        self.work.notify_one();
    }

    /// Has the writer ask soon where the lane stands.
    pub(crate) fn probe_soon(&self) {
        self.lock().probe = true;
        self.work.notify_one();
    }

    /// Whether the writer should ask where the lane stands; asked once.
    pub(crate) fn take_probe(&self) -> bool {
        std::mem::take(&mut self.lock().probe)
    }

    /// What is in Redis up to `last` is safe there: lets go of it, also in the journal.
    pub(crate) fn secure(&self, last: Sequence) {
        let count = self.lock().queue.secure(last);
        self.store.safe(self.lane.channel, count);
        self.moved.send_replace(());
    }

    /// There may be room again that another lane made.
    pub(crate) fn tell_moved(&self) {
        self.moved.send_replace(());
    }

    /// Number of the last message from before this sidecar; waits for the claim.
    pub(crate) async fn inherited(&self) -> Sequence {
        self.number(self.inherited).await
    }

    /// Waits until all that was taken so far is safe.
    pub(crate) async fn secured(&self) {
        let target = self.lock().queue.taken();
        self.wait(|queue| (queue.safe() >= target).then_some(())).await;
    }

    /// Whether anything waits to be appended, and whether that is a full batch.
    pub(crate) fn backlog(&self) -> (bool, bool) {
        let queue = &self.lock().queue;
        (queue.pending() > 0, queue.has_full_batch(self.limits))
    }

    /// The number of the message that was taken as the `count`th; waits for the claim.
    pub(crate) async fn number(&self, count: u64) -> Sequence {
        self.wait(|queue| queue.number(count)).await
    }

    /// Waits until all that was taken so far is in Redis.
    pub(crate) async fn flushed(&self) {
        let target = self.lock().queue.taken();
        self.wait(|queue| queue.has_appended(target).then_some(())).await;
    }

    pub(crate) fn position(&self) -> LanePosition {
        let queue = &self.lock().queue;
        let (taken, appended) = (queue.last(), queue.appended());
        LanePosition { taken, appended, pending: queue.pending(), bytes: queue.bytes() }
    }

    async fn wait<T>(&self, ready: impl Fn(&LaneQueue<Held>) -> Option<T>) -> T {
        let mut moved = self.moved.subscribe();
        loop {
            if let Some(value) = ready(&self.lock().queue) {
                return value;
            }
            let _ = moved.changed().await;
        }
    }

    /// Changes the queue as the writer, and wakes everyone who waits for that.
    pub(crate) fn update<T>(&self, change: impl FnOnce(&mut LaneQueue<Held>) -> T) -> T {
        let value = change(&mut self.lock().queue);
        self.moved.send_replace(());
        value
    }

    /// Waits until something was pushed that the writer may want to know of.
    pub(crate) async fn work(&self) {
        self.work.notified().await;
    }

    // A panic while holding the lock leaves the queue usable: every operation is one step.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
