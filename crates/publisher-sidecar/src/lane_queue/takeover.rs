//! Going on with what an earlier sidecar left, and with a lane that somebody wrote before.

use std::collections::VecDeque;

use runcast_protocol::Sequence;

use super::{LaneQueue, Slot, Standing};

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
}
