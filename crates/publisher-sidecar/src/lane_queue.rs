//! The sidecar's own record of one lane: what was taken from the agent and is not yet safe in Redis.

mod holes;
mod takeover;

use std::collections::VecDeque;

use runcast_protocol::Sequence;

pub use self::takeover::Comparison;

/// How much goes into one batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    /// Most messages.
    pub messages: usize,
    /// Most bytes; a batch holds at least one message, however large.
    pub bytes: usize,
}

/// The next messages to append, all consecutive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// Number of the first message.
    pub first: Sequence,
    /// Number of the last message.
    pub last: Sequence,
    /// Where Redis is known to stand. If that is not the one before `first`, what lies between is gone
    /// here too.
    pub after: Sequence,
}

/// Where a lane was found to stand in Redis, compared with what is held here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Where it should, or what is missing there is held here and will be cut again.
    Sound,
    /// Redis lost `lost` messages that are no longer held here. Each loss is told once.
    Hole {
        /// How many.
        lost: u64,
    },
    /// Redis holds what was never numbered here: another writer is, or was, at work.
    Ahead,
}

/// One lane's messages in the order in which they were taken, numbered without a hole, held until
/// they are safe. Pure: no clock, no socket, nothing to wait for.
///
/// Numbers are known only once the lane was claimed, for they continue where Redis stands; until
/// then messages are taken all the same. Inside, everything is counted from the lane's first
/// message here, so that the claim changes nothing that is held.
///
/// A message that will never be sent leaves a hole: its number is not used again, and the next batch
/// declares the hole to Redis, from where Redis is known to stand: standing elsewhere, it refuses.
///
/// Invariant: `safe ≤ appended ≤ taken`, and exactly the messages after `safe` are held.
#[derive(Debug)]
pub struct LaneQueue<T> {
    max_bytes: usize,
    held: VecDeque<Slot<T>>,
    bytes: usize,
    /// Bytes of what is held and not known to be in Redis.
    pending_bytes: usize,
    /// Where the lane stood when it was claimed.
    origin: Option<Sequence>,
    /// Redis stands here, as far as is known.
    stands: u64,
    /// `stands`, or the end of the hole that begins after it.
    appended: u64,
    /// What was cut may be in Redis, known or not.
    sent: u64,
    safe: u64,
    /// The last message up to `safe` that is no hole.
    solid: u64,
    /// What Redis lost that is no longer held.
    hole: Option<Hole>,
}

/// Redis stands below all that is held.
#[derive(Debug, Clone, Copy)]
struct Hole {
    /// Redis stands here.
    stands: Sequence,
    /// The lowest that it was told to stand.
    told: Sequence,
}

/// A message, or the hole that it left.
#[derive(Debug)]
struct Slot<T> {
    item: Option<T>,
    size: usize,
}

impl<T> LaneQueue<T> {
    /// An empty queue that holds at most `max_bytes`.
    pub fn new(max_bytes: usize) -> Self {
        Self::resumed(max_bytes, None, 0, [])
    }

    /// Takes a message of about `size` bytes. Returns how many were taken so far, this one
    /// included: see [`Self::number`].
    ///
    /// # Errors
    /// Gives the message back if there is no room for it. An empty queue has room for any.
    pub fn push(&mut self, item: T, size: usize) -> Result<u64, T> {
        if self.has_room(size) { Ok(self.push_over(item, size)) } else { Err(item) }
    }

    /// Whether a message of about `size` bytes would be taken.
    pub fn has_room(&self, size: usize) -> bool {
        self.bytes + size <= self.max_bytes || self.held.is_empty()
    }

    /// Takes a message whether or not there is room; otherwise as [`Self::push`].
    pub fn push_over(&mut self, item: T, size: usize) -> u64 {
        self.held.push_back(Slot { item: Some(item), size });
        self.bytes += size;
        self.pending_bytes += size;
        self.taken()
    }

    /// Where the lane stood before its first message here; none before the claim.
    pub fn origin(&self) -> Option<Sequence> {
        self.origin
    }

    /// The number of the message that was taken as the `count`th; none before the claim.
    pub fn number(&self, count: u64) -> Option<Sequence> {
        Some(self.origin?.plus(count))
    }

    /// The next messages to append; none before the claim, or if there are none.
    pub fn cut(&mut self, limits: BatchLimits) -> Option<Cut> {
        if !self.is_ready() {
            return None;
        }
        let mut bytes = 0;
        let fits = |slot: &&Slot<T>| {
            bytes += slot.size;
            slot.item.is_some() && (bytes == slot.size || bytes <= limits.bytes)
        };
        let start = self.index(self.appended);
        let count = self.held.range(start..).take(limits.messages.max(1)).take_while(fits).count() as u64;
        let (first, last) = (self.number(self.appended + 1)?, self.number(self.appended + count)?);
        self.sent = self.sent.max(self.appended + count);
        Some(Cut { first, last, after: self.stands()? })
    }

    /// Whether there is something to cut.
    pub fn is_ready(&self) -> bool {
        self.origin.is_some() && self.pending() > 0
    }

    /// The messages of a cut.
    pub fn items_mut(&mut self, cut: Cut) -> impl Iterator<Item = (Sequence, &mut T)> {
        let origin = self.origin.unwrap_or_default();
        let first = cut.first.get() - origin.get();
        let last = cut.last.get() - origin.get();
        let range = self.index(first - 1)..self.index(last);
        let numbered = (first..).map(move |count| origin.plus(count));
        let slots = numbered.zip(self.held.range_mut(range));
        slots.filter_map(|(number, slot)| Some((number, slot.item.as_mut()?)))
    }

    /// The messages that are in Redis but not safe, and of those only the ones after the `after`th.
    pub fn unsafe_items_mut(&mut self, after: u64) -> impl Iterator<Item = &mut T> {
        let range = self.index(after.clamp(self.safe, self.appended))..self.index(self.appended);
        self.held.range_mut(range).filter_map(|slot| slot.item.as_mut())
    }

    /// The messages that were cut at least once and are not safe.
    pub fn sent_items_mut(&mut self) -> impl Iterator<Item = &mut T> {
        let end = self.index(self.sent.max(self.appended));
        self.held.range_mut(..end).filter_map(|slot| slot.item.as_mut())
    }

    /// Redis says that the lane stands at `last`: after an append, a probe or a refusal.
    pub fn stands_at(&mut self, last: Sequence) -> Standing {
        let origin = self.origin.unwrap_or_default();
        let Some(count) = last.get().checked_sub(origin.get()).filter(|&count| count >= self.solid) else {
            self.set_stands(self.safe);
            let told = self.hole.map_or(origin.plus(self.solid), |hole| hole.told);
            self.hole = Some(Hole { stands: last, told: last.min(told) });
            let lost = told.get().saturating_sub(last.get());
            return if lost == 0 { Standing::Sound } else { Standing::Hole { lost } };
        };
        if count > self.taken() {
            return Standing::Ahead;
        }
        self.set_stands(count);
        self.hole = None;
        Standing::Sound
    }

    /// What is in Redis up to `last` will not be lost there any more: lets go of it.
    pub fn secure(&mut self, last: Sequence) {
        let count = last.get().saturating_sub(self.origin.unwrap_or_default().get()).min(self.appended);
        while self.safe < count {
            self.pop();
        }
        self.pass_holes();
    }

    /// Number of the last message taken; none before the claim.
    pub fn last(&self) -> Option<Sequence> {
        self.number(self.taken())
    }

    /// Where Redis is known to stand; none before the claim. Counts holes that come next as there.
    pub fn appended(&self) -> Option<Sequence> {
        self.number(self.appended)
    }

    /// Where Redis is known to stand, holes aside; none before the claim.
    pub fn stands(&self) -> Option<Sequence> {
        self.hole.map_or_else(|| self.number(self.stands), |hole| Some(hole.stands))
    }

    /// Number of the last message that is known to be safe; none before the claim.
    pub fn secured(&self) -> Option<Sequence> {
        self.number(self.safe)
    }

    /// How many messages are not known to be in Redis.
    pub fn pending(&self) -> u64 {
        self.taken() - self.appended
    }

    /// How many messages are known to be in Redis and not known to be safe there.
    pub fn exposed(&self) -> u64 {
        self.appended - self.safe
    }

    /// How many messages are safe.
    pub fn safe_count(&self) -> u64 {
        self.safe
    }

    /// How many messages are in Redis.
    pub fn appended_count(&self) -> u64 {
        self.appended
    }

    /// Whether the first `count` messages are known to be in Redis.
    pub fn has_appended(&self, count: u64) -> bool {
        self.appended >= count
    }

    /// Whether what waits to be appended is enough for a batch of its own.
    pub fn has_full_batch(&self, limits: BatchLimits) -> bool {
        self.pending() >= limits.messages as u64 || self.pending_bytes >= limits.bytes
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes that wait to be appended.
    pub fn pending_bytes(&self) -> usize {
        self.pending_bytes
    }

    /// How many messages were taken so far.
    pub fn taken(&self) -> u64 {
        self.safe + self.held.len() as u64
    }

    /// Where the message after the `count`th is held.
    fn index(&self, count: u64) -> usize {
        (count - self.safe) as usize
    }

    fn set_stands(&mut self, count: u64) {
        self.stands = count;
        self.set_appended(count.max(self.safe));
        self.pass_holes();
    }

    fn set_appended(&mut self, count: u64) {
        let (from, to) = (self.index(self.appended.min(count)), self.index(self.appended.max(count)));
        let moved: usize = self.held.range(from..to).map(|slot| slot.size).sum();
        if count >= self.appended {
            self.pending_bytes -= moved;
        } else {
            self.pending_bytes += moved;
        }
        self.appended = count;
    }

    fn pop(&mut self) {
        let slot = self.held.pop_front().expect("everything after `safe` is held");
        self.bytes -= slot.size;
        self.safe += 1;
        if slot.item.is_some() {
            self.solid = self.safe;
        }
    }
}

#[cfg(test)]
mod tests;
