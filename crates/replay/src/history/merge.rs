//! Several lanes in one order. Pure.
//!
//! A lane's own order is never changed. Between lanes the time decides, and a clock that steps back
//! does not take a lane's later messages before its earlier ones: what counts is the running maximum
//! of the times in a lane.

use std::collections::VecDeque;

use jiff::Timestamp;
use runcast_protocol::{Entry, Gap, Lane};

/// A message with its time, and what is missing before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timed {
    /// When it was said.
    pub time: Timestamp,
    /// What is missing before it.
    pub gap: Option<Gap>,
    /// The message; none if only a gap is left of the lane.
    pub entry: Option<Entry>,
}

/// The lanes, each with what is known of what comes next in it.
#[derive(Debug)]
pub struct Merge {
    lanes: Vec<Ahead>,
}

#[derive(Debug)]
struct Ahead {
    lane: Lane,
    latest: Timestamp,
    next: VecDeque<Timed>,
    ended: bool,
}

impl Merge {
    /// Lanes of which nothing is known yet.
    pub fn new(lanes: impl IntoIterator<Item = Lane>) -> Self {
        let ahead = |lane| Ahead { lane, latest: Timestamp::MIN, next: VecDeque::new(), ended: false };
        Self { lanes: lanes.into_iter().map(ahead).collect() }
    }

    /// The lanes, by index, of which more must be known before anything can come next.
    pub fn wanted(&self) -> impl Iterator<Item = usize> + '_ {
        let lanes = self.lanes.iter().enumerate();
        lanes.filter(|(_, ahead)| ahead.next.is_empty() && !ahead.ended).map(|(index, _)| index)
    }

    /// What comes next in a lane.
    pub fn extend(&mut self, index: usize, messages: impl IntoIterator<Item = Timed>) {
        let ahead = &mut self.lanes[index];
        for mut message in messages {
            message.time = message.time.max(ahead.latest);
            ahead.latest = message.time;
            ahead.next.push_back(message);
        }
    }

    /// Nothing follows in a lane.
    pub fn end(&mut self, index: usize) {
        self.lanes[index].ended = true;
    }

    /// The next one of all, and its lane's index. Only once nothing is [`Self::wanted`].
    pub fn pop(&mut self) -> Option<(usize, &Lane, Timed)> {
        let lanes = self.lanes.iter_mut().enumerate().filter(|(_, ahead)| !ahead.next.is_empty());
        let (index, next) = lanes.min_by_key(|(_, ahead)| ahead.next.front().map(|message| message.time))?;
        let message = next.next.pop_front()?;
        Some((index, &next.lane, message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use runcast_protocol::Sequence;

    fn said(second: i64, number: u64) -> Timed {
        let entry = Entry {
            sequence: Sequence::new(number).unwrap(),
            variation: "v".parse().unwrap(),
            line: bytes::Bytes::new(),
        };
        Timed { time: Timestamp::from_second(second).unwrap(), gap: None, entry: Some(entry) }
    }

    #[test]
    fn time_decides_between_lanes_and_the_sequence_within() {
        let lanes: Vec<Lane> = ["output/a", "output/b"].map(|lane| lane.parse().unwrap()).into();
        let mut merge = Merge::new(lanes);
        assert_eq!(merge.wanted().collect::<Vec<_>>(), [0, 1]);
        // The first lane's clock steps back after its second message.
        merge.extend(0, [said(1, 1), said(5, 2), said(2, 3)]);
        merge.extend(1, [said(3, 1), said(5, 2)]);
        merge.end(1);
        let mut order = Vec::new();
        while merge.wanted().next().is_none() {
            let Some((_, lane, message)) = merge.pop() else { break };
            order.push((lane.to_string(), message.entry.unwrap().sequence.get()));
        }
        let order: Vec<_> = order.iter().map(|(lane, number)| (lane.as_str(), *number)).collect();
        assert_eq!(order, [("output/a", 1), ("output/b", 1), ("output/a", 2), ("output/a", 3)]);
        assert_eq!(merge.wanted().collect::<Vec<_>>(), [0], "more of it may come before the other's");
        merge.end(0);
        assert_eq!(merge.pop().unwrap().2.entry.unwrap().sequence.get(), 2);
        assert!(merge.pop().is_none());
    }
}
