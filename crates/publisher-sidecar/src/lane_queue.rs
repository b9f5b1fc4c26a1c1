//! The sidecar's own record of one lane: what was taken from the agent and is not yet safe in Redis.

use std::collections::VecDeque;

use runcast_protocol::Sequence;

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
    /// Whether Redis stands below `first` and what lies between is gone here too.
    pub rebase: bool,
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
    /// Redis holds more than was ever numbered here: another writer is at work.
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
/// declares the hole to Redis. Since Redis then believes that all before it is there or given up, such
/// a batch is cut only when what lies before the hole is safe.
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
    /// Redis stands here, below `solid`, and that was told.
    hole: Option<Sequence>,
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

    /// The queue of an earlier sidecar: where the lane stood before its first message, how many of its
    /// messages are safe, and those that are not with their sizes; none for one that is lost.
    pub fn resumed(
        max_bytes: usize,
        origin: Option<Sequence>,
        safe: u64,
        messages: impl IntoIterator<Item = Option<(T, usize)>>,
    ) -> Self {
        let slots = messages.into_iter().map(|message| match message {
            Some((item, size)) => Slot { item: Some(item), size },
            None => Slot { item: None, size: 0 },
        });
        let held: VecDeque<_> = slots.collect();
        let bytes = held.iter().map(|slot| slot.size).sum();
        // Nobody knows which of them were sent; until the claim tells, none may be on its way from here.
        let sent = safe;
        // Without an origin, safe is only what was given up before the lane could be claimed.
        let stands = if origin.is_some() { safe } else { 0 };
        let (appended, solid, pending_bytes, hole) = (safe, stands, bytes, None);
        let mut queue =
            Self { max_bytes, held, bytes, pending_bytes, origin, stands, appended, sent, safe, solid, hole };
        queue.pass_holes();
        queue
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

    /// The lane is ours from now on, and stands at `last` in Redis. Compared with what an earlier
    /// sidecar left here, if it did.
    pub fn claimed(&mut self, last: Sequence) -> Standing {
        let standing = match self.origin {
            Some(_) => self.stands_at(last),
            None => {
                self.origin = Some(last);
                Standing::Sound
            }
        };
        // What older writers may still have on its way is refused from now on.
        self.sent = self.appended;
        standing
    }

    /// Another writer has used these numbers, up to `last`: what is not safe is numbered anew.
    pub fn renumber(&mut self, last: Sequence) {
        self.origin = Some(Sequence::new(last.get().saturating_sub(self.safe)).unwrap_or(last));
        self.set_stands(self.safe);
        (self.hole, self.sent) = (None, self.appended);
    }

    /// Where the lane stood before its first message here; none before the claim.
    pub fn origin(&self) -> Option<Sequence> {
        self.origin
    }

    /// The number of the message that was taken as the `count`th; none before the claim.
    pub fn number(&self, count: u64) -> Option<Sequence> {
        Some(self.origin?.plus(count))
    }

    /// The next messages to append; none before the claim, if there are none, or while the next one
    /// comes after a hole and what lies before that is not safe.
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
        Some(Cut { first, last, rebase: self.needs_rebase() })
    }

    /// Whether there is something to cut.
    pub fn is_ready(&self) -> bool {
        self.origin.is_some() && self.pending() > 0 && (!self.needs_rebase() || self.safe == self.appended)
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
            let told = self.hole.unwrap_or(origin.plus(self.solid));
            self.hole = Some(last.min(told));
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

    /// The message with this number will never be sent: it leaves a hole.
    pub fn give_up(&mut self, number: Sequence) -> Option<T> {
        let count = number.get().checked_sub(self.origin?.get())?;
        if count <= self.safe || count > self.taken() {
            return None;
        }
        let item = self.take_out(count);
        self.pass_holes();
        item
    }

    /// Makes room of about `bytes` by giving up the oldest messages that were never sent. `each` gets
    /// them; `marker` is asked for one with which to replace the last of them, and gets the first and
    /// the last one's count. Returns these.
    pub fn give_up_oldest(
        &mut self,
        bytes: usize,
        mut each: impl FnMut(T),
        marker: impl FnOnce(u64, u64) -> Option<(T, usize)>,
    ) -> Option<(u64, u64)> {
        let start = self.sent.max(self.appended);
        let (mut freed, mut dropped) = (0, None);
        for count in start + 1..=self.taken() {
            if freed >= bytes {
                break;
            }
            freed += self.held[self.index(count - 1)].size;
            if let Some(item) = self.take_out(count) {
                each(item);
                dropped = Some((dropped.map_or(count, |(first, _)| first), count));
            }
        }
        let (first, last) = dropped?;
        if let Some((item, size)) = marker(first, last) {
            let index = self.index(last - 1);
            self.held[index] = Slot { item: Some(item), size };
            self.bytes += size;
            self.pending_bytes += size;
        }
        self.pass_holes();
        dropped
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
        self.number(self.stands)
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

    /// Whether the next batch leaves out numbers.
    fn needs_rebase(&self) -> bool {
        self.hole.is_some() || self.stands < self.appended
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

    /// Holes that come next need not be sent, and those that nothing is held before, not be held.
    fn pass_holes(&mut self) {
        let is_hole = |slot: &Slot<T>| slot.item.is_none();
        while self.held.get(self.index(self.appended)).is_some_and(is_hole) {
            self.appended += 1;
        }
        while self.safe < self.appended && self.held.front().is_some_and(is_hole) {
            self.pop();
        }
    }

    fn pop(&mut self) {
        let slot = self.held.pop_front().expect("everything after `safe` is held");
        self.bytes -= slot.size;
        self.safe += 1;
        if slot.item.is_some() {
            self.solid = self.safe;
        }
    }

    fn take_out(&mut self, count: u64) -> Option<T> {
        let index = self.index(count - 1);
        let slot = &mut self.held[index];
        self.bytes -= slot.size;
        if count > self.appended {
            self.pending_bytes -= slot.size;
        }
        slot.size = 0;
        slot.item.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: BatchLimits = BatchLimits { messages: 3, bytes: 100 };

    fn at(number: u64) -> Sequence {
        Sequence::new(number).unwrap()
    }

    fn queue(messages: u64) -> LaneQueue<u64> {
        let mut queue = LaneQueue::new(1000);
        for message in 1..=messages {
            queue.push(message, 10).unwrap();
        }
        queue
    }

    #[test]
    fn numbers_continue_where_redis_stands() {
        let mut queue = queue(2);
        assert_eq!((queue.cut(LIMITS), queue.number(1)), (None, None));
        queue.claimed(at(40));
        assert_eq!(queue.cut(LIMITS), Some(Cut { first: at(41), last: at(42), rebase: false }));
        assert_eq!(queue.push(3, 10), Ok(3));
        assert_eq!(queue.number(3), Some(at(43)));
    }

    #[test]
    fn a_batch_is_limited_in_messages_and_bytes_but_never_empty() {
        let mut queue = queue(5);
        queue.claimed(at(0));
        let mut last = |messages, bytes| queue.cut(BatchLimits { messages, bytes }).unwrap().last;
        assert_eq!(last(3, 1000), at(3));
        assert_eq!(last(100, 25), at(2));
        assert_eq!(last(100, 1), at(1));
        assert_eq!(last(100, 1000), at(5));
    }

    #[test]
    fn a_full_queue_gives_the_message_back_but_an_empty_one_takes_any() {
        let mut queue = LaneQueue::new(100);
        assert_eq!(queue.push("huge", 500), Ok(1));
        assert_eq!(queue.push("more", 1), Err("more"));
        queue.claimed(at(0));
        queue.stands_at(at(1));
        assert_eq!(queue.push("more", 1), Err("more"), "appended is not yet safe");
        queue.secure(at(1));
        assert_eq!((queue.push("more", 1), queue.bytes()), (Ok(2), 1));
    }

    #[test]
    fn a_tail_lost_in_redis_is_cut_again() {
        let mut queue = queue(5);
        queue.claimed(at(0));
        assert_eq!(queue.stands_at(at(5)), Standing::Sound);
        queue.secure(at(2));
        assert_eq!((queue.cut(LIMITS), queue.pending()), (None, 0));
        assert_eq!(queue.stands_at(at(3)), Standing::Sound);
        assert_eq!(queue.cut(LIMITS), Some(Cut { first: at(4), last: at(5), rebase: false }));
    }

    #[test]
    fn what_is_gone_on_both_sides_is_told_once_and_gone_over() {
        let mut queue = queue(5);
        queue.claimed(at(10));
        queue.stands_at(at(15));
        queue.secure(at(14));
        assert_eq!(queue.stands_at(at(0)), Standing::Hole { lost: 14 });
        assert_eq!(queue.stands_at(at(0)), Standing::Sound);
        assert_eq!(queue.cut(LIMITS), Some(Cut { first: at(15), last: at(15), rebase: true }));
        assert_eq!(queue.stands_at(at(15)), Standing::Sound);
        queue.push(6, 10).unwrap();
        assert_eq!(queue.cut(LIMITS), Some(Cut { first: at(16), last: at(16), rebase: false }));
    }

    #[test]
    fn a_hole_is_gone_over_only_when_what_lies_before_it_is_safe() {
        let mut queue = queue(5);
        queue.claimed(at(10));
        queue.stands_at(at(12));
        assert_eq!(queue.give_up(at(13)), Some(3));
        assert_eq!((queue.cut(LIMITS), queue.is_ready(), queue.pending()), (None, false, 2));
        assert_eq!(queue.stands_at(at(11)), Standing::Sound, "a lost tail is sent first");
        assert_eq!(queue.cut(LIMITS), Some(Cut { first: at(12), last: at(12), rebase: false }));
        queue.stands_at(at(12));
        queue.secure(at(12));
        assert_eq!(queue.cut(LIMITS), Some(Cut { first: at(14), last: at(15), rebase: true }));
        assert_eq!(queue.stands_at(at(12)), Standing::Sound, "the hole itself is no loss");
        queue.stands_at(at(15));
        queue.secure(at(15));
        assert_eq!((queue.bytes(), queue.pending(), queue.exposed()), (0, 0, 0));
    }

    #[test]
    fn a_hole_at_the_end_waits_for_nobody() {
        let mut queue = queue(2);
        queue.claimed(at(0));
        queue.stands_at(at(1));
        queue.give_up(at(2));
        assert!(queue.has_appended(2) && !queue.is_ready());
        queue.secure(at(1));
        assert_eq!((queue.bytes(), queue.exposed()), (0, 0));
        assert_eq!(queue.stands_at(at(1)), Standing::Sound);
        queue.push(3, 10).unwrap();
        assert_eq!(queue.cut(LIMITS), Some(Cut { first: at(3), last: at(3), rebase: true }));
        assert_eq!(queue.stands_at(at(0)), Standing::Hole { lost: 1 });
    }

    #[test]
    fn the_oldest_that_were_never_sent_make_room_and_leave_a_marker() {
        let mut queue = queue(10);
        queue.claimed(at(0));
        queue.stands_at(at(1));
        queue.cut(LIMITS);
        let mut dropped = Vec::new();
        let range = queue.give_up_oldest(35, |item| dropped.push(item), |_, _| Some((99, 7)));
        assert_eq!((range, dropped), (Some((5, 8)), vec![5, 6, 7, 8]));
        assert_eq!((queue.bytes(), queue.pending()), (67, 9));
        queue.stands_at(at(4));
        queue.secure(at(4));
        let cut = queue.cut(LIMITS).unwrap();
        assert_eq!(cut, Cut { first: at(8), last: at(10), rebase: true });
        let items: Vec<_> = queue.items_mut(cut).map(|(number, item)| (number.get(), *item)).collect();
        assert_eq!(items, [(8, 99), (9, 9), (10, 10)]);
    }

    #[test]
    fn what_an_earlier_sidecar_left_keeps_its_numbers() {
        let left = [Some((3, 10)), None, Some((5, 10))];
        let mut queue = LaneQueue::resumed(1000, Some(at(100)), 2, left);
        assert_eq!(
            (queue.taken(), queue.cut(LIMITS)),
            (5, Some(Cut { first: at(103), last: at(103), rebase: false }))
        );
        assert_eq!(queue.claimed(at(103)), Standing::Sound);
        assert_eq!(queue.cut(LIMITS), None, "after the hole");
        queue.secure(at(103));
        assert_eq!(queue.cut(LIMITS), Some(Cut { first: at(105), last: at(105), rebase: true }));
        assert_eq!(queue.claimed(at(110)), Standing::Ahead);
        queue.renumber(at(110));
        assert_eq!(queue.cut(LIMITS), Some(Cut { first: at(111), last: at(111), rebase: false }));
    }

    #[test]
    fn more_in_redis_than_was_numbered_is_somebody_elses() {
        let mut queue = queue(5);
        queue.claimed(at(10));
        assert_eq!(queue.stands_at(at(16)), Standing::Ahead);
    }
}
