//! A lane as its writer and those who publish share it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use runcast_protocol::{Lane, Message, Sequence};
use tokio::sync::{Notify, watch};

use crate::lane_queue::{BatchLimits, LaneQueue};
use crate::publisher::LanePosition;

/// A lane's queue, and ways to wait for it to move.
#[derive(Debug)]
pub(crate) struct OpenLane {
    pub(crate) lane: Lane,
    limits: BatchLimits,
    state: Mutex<State>,
    /// Wakes the writer.
    work: Notify,
    /// Wakes those who wait for the claim, for room or for the end: bumped by the writer.
    moved: watch::Sender<()>,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) queue: LaneQueue<Message>,
    /// Nothing more is taken.
    closed: bool,
}

/// The lane takes nothing more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Closed;

impl OpenLane {
    pub(crate) fn new(lane: Lane, limits: BatchLimits, max_bytes: usize) -> Self {
        let state = Mutex::new(State { queue: LaneQueue::new(max_bytes), closed: false });
        Self { lane, limits, state, work: Notify::new(), moved: watch::Sender::new(()) }
    }

    /// Takes a message; waits for room if the queue is full. Returns its count, see
    /// [`LaneQueue::number`].
    pub(crate) async fn push(&self, mut message: Message, size: usize) -> Result<u64, Closed> {
        match self.try_push(message, size)? {
            Ok(count) => return Ok(count),
            Err(back) => message = back,
        }
        let mut moved = self.moved.subscribe();
        loop {
            match self.try_push(message, size)? {
                Ok(count) => return Ok(count),
                Err(back) => message = back,
            }
            // The sender lives in self.
            let _ = moved.changed().await;
        }
    }

    fn try_push(&self, message: Message, size: usize) -> Result<Result<u64, Message>, Closed> {
        let mut state = self.lock();
        if state.closed {
            return Err(Closed);
        }
        let pushed = state.queue.push(message, size);
        // The writer sleeps until there is something to send, then until a batch is full.
        let wake = state.queue.pending() == 1 || state.queue.has_full_batch(self.limits);
        drop(state);
        if pushed.is_ok() && wake {
            self.work.notify_one();
        }
        Ok(pushed)
    }

    /// Takes nothing more from now on.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.moved.send_replace(());
    }

    /// Takes one last message, though the lane is closed and whether or not there is room.
    pub(crate) fn push_last(&self, message: Message, size: usize) {
        self.lock().queue.push_over(message, size);
        self.work.notify_one();
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

    async fn wait<T>(&self, ready: impl Fn(&LaneQueue<Message>) -> Option<T>) -> T {
        let mut moved = self.moved.subscribe();
        loop {
            if let Some(value) = ready(&self.lock().queue) {
                return value;
            }
            let _ = moved.changed().await;
        }
    }

    /// Changes the queue as the writer, and wakes everyone who waits for that.
    pub(crate) fn update<T>(&self, change: impl FnOnce(&mut LaneQueue<Message>) -> T) -> T {
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
