//! What the agent says goes into the lane: at once if there is room for it.

use std::time::Duration;

use tokio::time::sleep;

use super::overflow::Overflow;
use super::{Closed, OpenLane, State};
use crate::held::Held;
use crate::journal::JournalError;
use crate::store::Store;

/// With a journal, as much of what waits to be appended is kept in memory too; the rest is read back.
const COPIED_BYTES: usize = 1 << 20;

/// How often somebody who waits for room looks by himself: a disk that is full tells nobody.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

impl OpenLane {
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

    /// Most bytes of a message: one that fills the journal could never be noted.
    pub(crate) fn max_message(&self) -> usize {
        // Room for the entry around it and the segment's head.
        self.store
            .as_ref()
            .map_or(usize::MAX, |store| usize::try_from(store.limit - 2048).unwrap_or(usize::MAX))
    }
}
