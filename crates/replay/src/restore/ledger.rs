//! What is lent at the moment: Redis is for runs at work, and only so much of it for this. Pure.

use std::collections::VecDeque;

use runcast_protocol::PastRequest;
use tokio::time::Instant;

/// What is lent at the moment, the oldest first.
#[derive(Debug)]
pub(super) struct Ledger {
    limit: usize,
    bytes: usize,
    answers: VecDeque<(PastRequest, usize, Instant)>,
}

impl Ledger {
    /// Nothing lent yet, and never more than `limit` bytes, unless one answer has more.
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, bytes: 0, answers: VecDeque::new() }
    }

    /// Whether an answer of so many bytes can be lent without taking another back.
    pub(super) fn has_room(&mut self, bytes: usize, now: Instant) -> bool {
        self.expire(now);
        self.bytes + bytes <= self.limit
    }

    fn expire(&mut self, now: Instant) {
        while let Some((_, freed, expires)) = self.answers.front()
            && *expires <= now
        {
            self.bytes -= freed;
            self.answers.pop_front();
        }
    }

    /// Enters an answer of so many bytes that goes by itself at `until`. Returns those that must be taken
    /// back for it.
    pub(super) fn lend(
        &mut self,
        request: &PastRequest,
        bytes: usize,
        now: Instant,
        until: Instant,
    ) -> Vec<PastRequest> {
        self.expire(now);
        let mut too_many = Vec::new();
        while self.bytes + bytes > self.limit
            && let Some((old, freed, _)) = self.answers.pop_front()
        {
            self.bytes -= freed;
            if old != *request {
                too_many.push(old);
            }
        }
        if bytes > 0 {
            self.bytes += bytes;
            self.answers.push_back((request.clone(), bytes, until));
        }
        too_many
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use runcast_protocol::Sequence;

    use super::*;

    #[test]
    fn the_oldest_make_room_and_what_has_expired_needs_no_taking_back() {
        let page = |after| {
            let after = Sequence::new(after).unwrap();
            PastRequest::page("r".parse().unwrap(), "output/a".parse().unwrap(), after)
        };
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut ledger = Ledger::new(100);
        assert!(ledger.lend(&page(1), 40, start, start + second).is_empty());
        assert!(ledger.lend(&page(2), 40, start, start + second * 9).is_empty());
        assert!(ledger.lend(&page(3), 0, start, start + second).is_empty(), "nothing takes no room");
        assert!(ledger.has_room(20, start) && !ledger.has_room(21, start));
        assert_eq!(ledger.lend(&page(4), 40, start, start + second * 9), [page(1)]);
        assert_eq!(ledger.lend(&page(5), 400, start + second * 2, start + second * 9), [page(2), page(4)]);
        assert!(ledger.lend(&page(6), 100, start + second * 9, start + second * 18).is_empty());
        assert_eq!(ledger.bytes, 100);
    }
}
