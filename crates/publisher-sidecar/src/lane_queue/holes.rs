//! Messages that will never be sent: those that Redis will not have, and those for which there is no
//! room. Each leaves a hole.

use runcast_protocol::Sequence;

use super::{LaneQueue, Slot};

impl<T> LaneQueue<T> {
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

    /// Holes that come next need not be sent, and those that nothing is held before, not be held.
    pub(super) fn pass_holes(&mut self) {
        let is_hole = |slot: &Slot<T>| slot.item.is_none();
        while self.held.get(self.index(self.appended)).is_some_and(is_hole) {
            self.appended += 1;
        }
        while self.safe < self.appended && self.held.front().is_some_and(is_hole) {
            self.pop();
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
