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
/// then messages are taken all the same. Inside, everything is counted from this writer's first
/// message, so that the claim changes nothing that is held.
///
/// Invariant: `safe ≤ appended ≤ taken`, and exactly the messages after `safe` are held.
#[derive(Debug)]
pub struct LaneQueue<T> {
    max_bytes: usize,
    held: VecDeque<(T, usize)>,
    bytes: usize,
    /// Bytes of what is held and not known to be in Redis.
    pending_bytes: usize,
    /// Where the lane stood when it was claimed.
    origin: Option<Sequence>,
    appended: u64,
    safe: u64,
    /// Redis stands here, below `safe`, and that was told.
    hole: Option<Sequence>,
}

impl<T> LaneQueue<T> {
    /// An empty queue that holds at most `max_bytes`.
    pub fn new(max_bytes: usize) -> Self {
        let (held, bytes, pending_bytes, origin) = (VecDeque::new(), 0, 0, None);
        Self { max_bytes, held, bytes, pending_bytes, origin, appended: 0, safe: 0, hole: None }
    }

    /// A queue that goes on where another ended: `items`, with their sizes, come after the first
    /// `safe` messages; all are counted from `origin`, if the lane was claimed before.
    pub fn restored(
        max_bytes: usize,
        origin: Option<Sequence>,
        safe: u64,
        items: impl IntoIterator<Item = (T, usize)>,
    ) -> Self {
        let held: VecDeque<_> = items.into_iter().collect();
        let bytes = held.iter().map(|(_, size)| size).sum();
        let (pending_bytes, appended, hole) = (bytes, safe, None);
        Self { max_bytes, held, bytes, pending_bytes, origin, appended, safe, hole }
    }

    /// Whether there is room for a message of `size` bytes. An empty queue has room for any.
    pub fn has_room(&self, size: usize) -> bool {
        self.bytes + size <= self.max_bytes || self.held.is_empty()
    }

    /// Takes a message of about `size` bytes. Returns how many were taken so far, this one
    /// included: see [`Self::number`].
    ///
    /// # Errors
    /// Gives the message back if there is no room for it. An empty queue has room for any.
    pub fn push(&mut self, item: T, size: usize) -> Result<u64, T> {
        if self.has_room(size) { Ok(self.push_over(item, size)) } else { Err(item) }
    }

    /// Takes a message whether or not there is room; otherwise as [`Self::push`].
    pub fn push_over(&mut self, item: T, size: usize) -> u64 {
        self.held.push_back((item, size));
        self.bytes += size;
        self.pending_bytes += size;
        self.taken()
    }

    /// The lane is ours from now on, and stands at `last`.
    pub fn claimed(&mut self, last: Sequence) {
        debug_assert!(self.origin.is_none(), "a lane is claimed once");
        self.origin = Some(last);
    }

    /// What is held goes on after `last`, whatever its numbers were: somebody else used those.
    /// Returns the new origin.
    pub fn renumber(&mut self, last: Sequence) -> Sequence {
        self.set_appended(self.safe);
        let origin = Sequence::new(last.get().saturating_sub(self.safe)).unwrap_or_default();
        (self.origin, self.hole) = (Some(origin), None);
        origin
    }

    /// Whether the lane was claimed, by this queue or the one that it goes on from.
    pub fn is_claimed(&self) -> bool {
        self.origin.is_some()
    }

    /// The number of the message that was taken as the `count`th; none before the claim.
    pub fn number(&self, count: u64) -> Option<Sequence> {
        Some(self.origin?.plus(count))
    }

    /// The next messages to append; none before the claim, or if there are none.
    pub fn cut(&self, limits: BatchLimits) -> Option<Cut> {
        let start = usize::try_from(self.appended - self.safe).ok()?;
        let mut bytes = 0;
        let fits = |(_, size): &&(T, usize)| {
            bytes += size;
            bytes == *size || bytes <= limits.bytes
        };
        let count = self.held.range(start..).take(limits.messages.max(1)).take_while(fits).count() as u64;
        let (first, last) = (self.number(self.appended + 1)?, self.number(self.appended + count)?);
        (count > 0).then_some(Cut { first, last, rebase: self.hole.is_some() })
    }

    /// The messages of a cut.
    pub fn items_mut(&mut self, cut: Cut) -> impl Iterator<Item = (Sequence, &mut T)> {
        let origin = self.origin.unwrap_or_default();
        let first = cut.first.get() - origin.get();
        let count = (cut.last.get() + 1 - cut.first.get()) as usize;
        let start = (first - self.safe - 1) as usize;
        let numbered = (first..).map(move |count| origin.plus(count));
        numbered.zip(self.held.range_mut(start..start + count).map(|(item, _)| item))
    }

    /// Redis says that the lane stands at `last`: after an append, a probe or a refusal.
    pub fn stands_at(&mut self, last: Sequence) -> Standing {
        let origin = self.origin.unwrap_or_default();
        let Some(count) = last.get().checked_sub(origin.get()).filter(|&count| count >= self.safe) else {
            self.set_appended(self.safe);
            let told = self.hole.unwrap_or(origin.plus(self.safe));
            self.hole = Some(last.min(told));
            let lost = told.get().saturating_sub(last.get());
            return if lost == 0 { Standing::Sound } else { Standing::Hole { lost } };
        };
        if count > self.taken() {
            return Standing::Ahead;
        }
        self.set_appended(count);
        self.hole = None;
        Standing::Sound
    }

    /// What is in Redis up to `last` will not be lost there any more: lets go of it. Returns how
    /// many messages are safe now.
    pub fn secure(&mut self, last: Sequence) -> u64 {
        let count = last.get().saturating_sub(self.origin.unwrap_or_default().get()).min(self.appended);
        while self.safe < count {
            let (_, size) = self.held.pop_front().expect("everything after `safe` is held");
            self.bytes -= size;
            self.safe += 1;
        }
        self.safe
    }

    /// How many messages are safe.
    pub fn safe(&self) -> u64 {
        self.safe
    }

    /// How many messages are in Redis, but not known to be safe there.
    pub fn unsafe_count(&self) -> u64 {
        self.appended - self.safe
    }

    /// Bytes that wait to be appended.
    pub fn pending_bytes(&self) -> usize {
        self.pending_bytes
    }

    /// Number of the last message taken; none before the claim.
    pub fn last(&self) -> Option<Sequence> {
        self.number(self.taken())
    }

    /// Where Redis is known to stand; none before the claim.
    pub fn appended(&self) -> Option<Sequence> {
        self.number(self.appended)
    }

    /// How many messages are not known to be in Redis.
    pub fn pending(&self) -> u64 {
        self.taken() - self.appended
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

    /// How many messages were taken so far.
    pub fn taken(&self) -> u64 {
        self.safe + self.held.len() as u64
    }

    fn set_appended(&mut self, count: u64) {
        let at = |count: u64| (count - self.safe) as usize;
        let (from, to) = (at(self.appended.min(count)), at(self.appended.max(count)));
        let moved: usize = self.held.range(from..to).map(|(_, size)| size).sum();
        if count >= self.appended {
            self.pending_bytes -= moved;
        } else {
            self.pending_bytes += moved;
        }
        self.appended = count;
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
        let last = |queue: &LaneQueue<u64>, messages, bytes| {
            queue.cut(BatchLimits { messages, bytes }).unwrap().last
        };
        assert_eq!(last(&queue, 3, 1000), at(3));
        assert_eq!(last(&queue, 100, 25), at(2));
        assert_eq!(last(&queue, 100, 1), at(1));
        assert_eq!(last(&queue, 100, 1000), at(5));
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
    fn more_in_redis_than_was_numbered_is_somebody_elses() {
        let mut queue = queue(5);
        queue.claimed(at(10));
        assert_eq!(queue.stands_at(at(16)), Standing::Ahead);
    }
}
