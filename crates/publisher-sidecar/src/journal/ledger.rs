//! What the journal knows of each lane. Pure.

use std::collections::VecDeque;

use runcast_protocol::{Channel, Sequence};

use super::frame::{LANES, Marks, index};

/// Ages are known to about a second: one note for each message would be as large as the message list.
const AGE_STEP: u64 = 1_000_000;

/// How many messages each lane had at some point, by [`index`].
pub(super) type Counts = [u64; LANES];

/// Counts each lane's messages, from the journal's very first on.
///
/// Invariant: `safe ≤ taken`.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    marks: [Marks; LANES],
    /// Some message's count and when it was taken, in microseconds since 1970; the first one is the
    /// last at or before the first message that is not safe.
    ages: [VecDeque<(u64, u64)>; LANES],
}

impl Ledger {
    /// Counts a message that was taken `at`, in microseconds since 1970.
    pub(super) fn take(&mut self, channel: Channel, at: u64) -> u64 {
        let lane = index(channel);
        self.marks[lane].taken += 1;
        let count = self.marks[lane].taken;
        let due = |&(_, last): &(u64, u64)| at >= last + AGE_STEP || at < last;
        if self.ages[lane].back().is_none_or(due) {
            self.ages[lane].push_back((count, at));
        }
        count
    }

    /// Where the lane stood before its first message.
    pub(super) fn origin(&mut self, channel: Channel, last: Sequence) {
        self.marks[index(channel)].origin = Some(last);
    }

    /// The first `count` messages are safe. Returns the count that is new, if any is.
    pub(super) fn safe(&mut self, channel: Channel, count: u64) -> Option<u64> {
        let marks = &mut self.marks[index(channel)];
        let count = count.min(marks.taken);
        if count <= marks.safe {
            return None;
        }
        marks.safe = count;
        let (all_safe, ages) = (count == marks.taken, &mut self.ages[index(channel)]);
        while ages.get(1).is_some_and(|&(next, _)| next <= count + 1) || (all_safe && !ages.is_empty()) {
            ages.pop_front();
        }
        Some(count)
    }

    /// A segment's head says where the lanes stood when it was begun: further on, if what lay before
    /// is damaged. What lay before the `first` segment there is was deleted, hence it was safe.
    pub(super) fn resume(&mut self, head: &[Marks; LANES], first: bool) {
        for (marks, head) in self.marks.iter_mut().zip(head) {
            marks.origin = head.origin.or(marks.origin);
            marks.taken = marks.taken.max(head.taken);
            let safe = if first { head.taken } else { head.safe };
            marks.safe = marks.safe.max(safe).min(marks.taken);
        }
    }

    /// How every lane stands.
    pub(super) fn marks(&self) -> &[Marks; LANES] {
        &self.marks
    }

    /// How many messages each lane has had so far.
    pub(super) fn counts(&self) -> Counts {
        self.marks.map(|marks| marks.taken)
    }

    /// Whether all messages are safe that there were when the counts stood so.
    pub(super) fn all_safe(&self, counts: &Counts) -> bool {
        self.marks.iter().zip(counts).all(|(marks, &count)| marks.safe >= count)
    }

    /// How many messages are not safe.
    pub(super) fn unsafe_messages(&self) -> u64 {
        self.marks.iter().map(|marks| marks.taken - marks.safe).sum()
    }

    /// When the oldest message that is not safe was taken, in microseconds since 1970.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.ages.iter().filter_map(|ages| Some(ages.front()?.1)).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    #[test]
    fn the_oldest_is_known_to_a_second_and_forgotten_when_safe() {
        let mut ledger = Ledger::default();
        for tenth in 0..100 {
            ledger.take(Channel::Output, tenth * SECOND / 10);
        }
        ledger.take(Channel::Logs, 5 * SECOND);
        assert_eq!(ledger.oldest(), Some(0));
        ledger.safe(Channel::Output, 34);
        assert_eq!(ledger.oldest(), Some(3 * SECOND), "of the 35th, taken after 3.4 s");
        ledger.safe(Channel::Output, 90);
        assert_eq!(ledger.oldest(), Some(5 * SECOND), "the log record");
        ledger.safe(Channel::Output, 100);
        ledger.safe(Channel::Logs, 1);
        assert_eq!((ledger.oldest(), ledger.unsafe_messages()), (None, 0));
        ledger.take(Channel::Output, 10 * SECOND);
        assert_eq!(ledger.oldest(), Some(10 * SECOND));
    }

    #[test]
    fn safe_never_goes_back_nor_beyond_what_was_taken() {
        let mut ledger = Ledger::default();
        for _ in 0..5 {
            ledger.take(Channel::Output, 0);
        }
        assert_eq!(ledger.safe(Channel::Output, 3), Some(3));
        assert_eq!(ledger.safe(Channel::Output, 2), None);
        assert_eq!(ledger.safe(Channel::Output, 9), Some(5));
    }

    #[test]
    fn what_lies_before_the_first_segment_is_safe_and_what_a_later_head_adds_is_not() {
        let head = |taken, safe| [Marks { origin: None, taken, safe }; LANES];
        let mut ledger = Ledger::default();
        ledger.resume(&head(10, 4), true);
        assert_eq!(ledger.marks(), &head(10, 10));
        ledger.resume(&head(15, 12), false);
        assert_eq!(ledger.marks(), &head(15, 12));
    }
}
