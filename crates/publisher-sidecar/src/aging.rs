//! What is safe where Redis cannot tell: what was there long enough ago, and still is. Pure: time
//! comes from outside, as the time since some beginning.

use std::collections::VecDeque;
use std::time::Duration;

use runcast_protocol::Sequence;

/// Twice the interval at which Redis syncs its append-only file.
pub const SAFE_AFTER: Duration = Duration::from_secs(2);

/// Where one lane was seen to stand, and when.
#[derive(Debug, Default)]
pub struct Aging {
    seen: VecDeque<(Duration, Sequence)>,
}

impl Aging {
    /// The lane was asked about at `now`, and stood at `position`. Returns up to where it is safe.
    pub fn see(&mut self, now: Duration, position: Sequence) -> Sequence {
        // What is not there any more never was.
        while self.seen.back().is_some_and(|&(_, seen)| seen > position) {
            self.seen.pop_back();
        }
        if self.seen.back().is_none_or(|&(_, seen)| seen < position) {
            self.seen.push_back((now, position));
        }
        let is_old = |&(time, _): &(Duration, Sequence)| now >= time + SAFE_AFTER;
        while self.seen.get(1).is_some_and(is_old) {
            self.seen.pop_front();
        }
        self.seen.front().filter(|seen| is_old(seen)).map_or(Sequence::NONE, |&(_, position)| position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn safe_is_what_was_there_two_seconds_ago_and_still_is() {
        let mut aging = Aging::default();
        let mut see = |millis, position| {
            aging.see(Duration::from_millis(millis), Sequence::new(position).unwrap()).get()
        };
        assert_eq!((see(0, 5), see(1_000, 9), see(1_900, 9), see(2_000, 9)), (0, 0, 0, 5));
        assert_eq!((see(2_900, 9), see(3_000, 12)), (5, 9));
        assert_eq!(see(4_000, 7), 0, "a failover took the tail");
        assert_eq!((see(4_100, 12), see(6_000, 12), see(6_100, 12)), (0, 7, 12));
    }
}
