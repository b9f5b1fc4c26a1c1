//! What becomes of a message for which there is no room, and how that is told.

use std::cell::Cell;
use std::time::Duration;

use runcast_protocol::{Channel, timestamp};
use tokio::time::Instant;

use super::{OpenLane, State};
use crate::held::{Gap, GapCause, Held};
use crate::store::Store;

/// How often it is said again that there is no room.
const TELL_AGAIN: Duration = Duration::from_secs(5);

/// What is done with a message for which there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Overflow {
    /// The agent waits.
    Wait,
    /// The oldest messages that were never sent go, and a marker takes their place.
    DropOldest,
    /// All but the latest go.
    KeepLatest,
}

impl Overflow {
    pub(super) fn of(channel: Channel) -> Self {
        match channel {
            Channel::Logs => Self::DropOldest,
            Channel::Metrics => Self::KeepLatest,
            Channel::Output | Channel::Status | Channel::Control | Channel::Acks => Self::Wait,
        }
    }
}

impl OpenLane {
    /// Makes room for `size` bytes where it may be made, an eighth of `limit` at once. Returns whether
    /// there was anything to give up.
    pub(super) fn give_up_oldest(&self, state: &mut State, size: usize, limit: usize) -> bool {
        let overflow = Overflow::of(self.lane.channel);
        let bytes = if overflow == Overflow::KeepLatest { usize::MAX } else { size.max(limit / 8) };
        let (first_lost, lost, dropped) = (Cell::new(None), Cell::new(0), Cell::new(0));
        let count_in = |item| match item {
            Held::Gap(gap) => {
                first_lost.set(first_lost.get().or(Some(gap.first)));
                lost.set(lost.get() + gap.dropped);
            }
            _ => dropped.set(dropped.get() + 1),
        };
        let given_up = state.queue.give_up_oldest(bytes, count_in, |first, last| {
            let (first, dropped) = (first_lost.get().unwrap_or(first).min(first), lost.get() + dropped.get());
            let gap = Gap { first, last, dropped, cause: GapCause::Overflow, at: timestamp::now() };
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

    /// Redis lacks log records that are not held any more: a marker says so. Most of all where an earlier
    /// sidecar dropped them, whose marker was in its memory only.
    pub(super) fn mark_missing(&self, state: &mut State) {
        if Overflow::of(self.lane.channel) != Overflow::DropOldest {
            return;
        }
        if let Some((first, last)) = state.queue.missing() {
            let dropped = last - first + 1;
            let gap = Gap { first, last, dropped, cause: GapCause::Lost, at: timestamp::now() };
            state.queue.stand_in(Held::Gap(Box::new(gap)), 0);
        }
    }

    /// Whether messages may be dropped for want of room.
    pub(crate) fn may_drop(&self) -> bool {
        Overflow::of(self.lane.channel) != Overflow::Wait
    }

    pub(super) fn tell_full(&self, state: &mut State, why: &dyn std::fmt::Display) {
        if state.told.is_none_or(|told| told.elapsed() > TELL_AGAIN) {
            state.told = Some(Instant::now());
            tracing::warn!(lane = %self.lane, pending = state.queue.pending(), %why, "no room for what the agent says");
        }
    }
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
