//! Going on with what an earlier sidecar left.
//!
//! The journal knows what was safe, not what was appended after that; and nobody knows who else wrote
//! the lane since. Numbers alone do not tell: another writer continued with the very ones that were to
//! come next here. Nor do epochs: one is claimed by a sidecar that dies before it has noted it, and
//! after a failover they begin anew from a lower one. So what Redis holds above the last safe number
//! is compared with what is held here. Where Redis has our very message under our number, all before it
//! was ours as well, for a batch is accepted only where its writer expects it. From the first strange
//! one on the numbers are lost to us, and what is left is numbered after all that is there.

use std::collections::VecDeque;

use runcast_protocol::Sequence;

use super::{LaneQueue, Slot, Standing};

/// What Redis has above the last safe number, compared with what is held here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Comparison {
    /// The last that is the same.
    same: Option<Sequence>,
    /// Something after that is not.
    differs: bool,
}

impl Comparison {
    /// Redis has a message under `number`, the next one there. Whether it is ours, see
    /// [`LaneQueue::is_ours`].
    pub fn see(&mut self, number: Sequence, is_ours: Option<bool>) {
        match is_ours {
            Some(true) => *self = Self { same: Some(number), differs: false },
            Some(false) => self.differs = true,
            None => {}
        }
    }

    /// The last of ours that must be safe before the lane is gone on with: what follows gets numbers
    /// after another writer's, and it could not be sent again before those.
    pub fn to_be_safe(&self) -> Option<Sequence> {
        self.same.filter(|_| self.differs)
    }
}

impl<T> LaneQueue<T> {
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

    /// After which number Redis is to be compared with what is held here, if it was found to stand at
    /// `last`; none if there is nothing to compare.
    pub fn compare_after(&self, last: Sequence) -> Option<Sequence> {
        self.secured().filter(|&secured| secured < last && !self.held.is_empty())
    }

    /// Whether what Redis has under `number` was taken here, as `same` finds of the message held under
    /// it; none if that is not held any more.
    pub fn is_ours(&self, number: Sequence, same: impl FnOnce(&T) -> Option<bool>) -> Option<bool> {
        let count = number.get().checked_sub(self.origin?.get()).filter(|&count| count > self.safe)?;
        if count > self.taken() {
            return Some(false);
        }
        same(self.held[self.index(count - 1)].item.as_ref()?)
    }

    /// The lane is ours from now on, stands at `last` in Redis, and compares so with what an earlier
    /// sidecar left here. If another writer used the numbers, what is not in Redis has new ones now, and
    /// what is was made safe: see [`Comparison::to_be_safe`].
    pub fn claimed(&mut self, last: Sequence, found: Comparison) -> Standing {
        let standing = match self.last() {
            None => {
                self.origin = Some(last);
                Standing::Sound
            }
            Some(taken) if found.differs || last > taken => {
                self.renumber(found.same, last);
                if self.held.is_empty() { Standing::Sound } else { Standing::Ahead }
            }
            Some(_) => self.stands_at(last),
        };
        // What older writers may still have on its way is refused from now on.
        self.sent = self.appended;
        standing
    }

    /// The first and the last one's count of the messages that are neither in Redis nor held here any
    /// more, if there are any before those that are held.
    pub fn missing(&self) -> Option<(u64, u64)> {
        let stands = self.stands()?.get().saturating_sub(self.origin?.get());
        (stands < self.safe).then_some((stands + 1, self.safe))
    }

    /// Holds a message of about `size` bytes in place of the last one that is missing.
    pub fn stand_in(&mut self, item: T, size: usize) {
        if self.missing().is_some() {
            self.held.push_front(Slot { item: Some(item), size });
            self.bytes += size;
            self.safe -= 1;
            self.solid = self.solid.min(self.safe);
            self.stands = self.stands.min(self.safe);
            self.set_appended(self.safe);
        }
    }

    /// What comes after `ours`, which is safe, is numbered after `last`. What lies between is somebody
    /// else's.
    fn renumber(&mut self, ours: Option<Sequence>, last: Sequence) {
        if let Some(ours) = ours {
            self.stands_at(ours);
            self.secure(ours);
        }
        self.origin = Some(Sequence::new(last.get().saturating_sub(self.safe)).unwrap_or(last));
        self.set_stands(self.safe);
        self.hole = None;
    }
}
