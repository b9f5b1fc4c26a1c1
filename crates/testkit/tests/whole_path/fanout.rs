//! One fan-out process: the real tracker, reader and views, moved as its feed moves them.

use std::collections::VecDeque;

use runcast_protocol::{Batch, Channel, Placement, Selection, Sequence};
use runcast_sse_fanout::ring::RingLimits;
use runcast_sse_fanout::shared_reader::SharedReader;
use runcast_sse_fanout::tracker::Tracker;
use runcast_sse_fanout::view::View;

use runcast_bus::{Found, Item, LaneReader};

use crate::redis::Redis;
use crate::truth::Mistake;

pub struct Fanout {
    tracker: Tracker,
    /// Of everything, and of the output only.
    pub views: Vec<View>,
    mistake: Option<Mistake>,
}

impl Fanout {
    pub fn start(redis: &Redis, mistake: Option<Mistake>) -> Self {
        let mut tracker = Tracker::default();
        for (lane, at) in redis.lanes() {
            tracker.follow(lane.clone(), at.last);
        }
        let selections = [Selection::default(), Selection::new([Channel::Output].into(), None)];
        let views = selections.map(|selection| {
            let head = tracker.cursor(|lane| selection.has_lane(lane));
            View::new(selection, head, RingLimits { frames: 8, bytes: 1 << 20 })
        });
        Self { tracker, views: views.into(), mistake }
    }

    pub fn deliver(&mut self, payload: bytes::Bytes, redis: &Redis) {
        let batch = Batch::parse(payload).expect("a batch");
        if self.mistake == Some(Mistake::TrustsPubSub) {
            return self.pass_on(&batch.lane, batch.entries.iter().cloned().map(Item::Message).collect());
        }
        match self.tracker.offer(&batch) {
            Some(Placement::Next(entries)) => {
                self.pass_on(&batch.lane, entries.iter().cloned().map(Item::Message).collect());
            }
            Some(Placement::Ahead | Placement::Duplicate) => {}
            None => self.check(redis),
        }
        self.catch_up(redis);
    }

    /// The periodic look at where the lanes stand.
    pub fn check(&mut self, redis: &Redis) {
        if self.mistake == Some(Mistake::NeverChecks) {
            return;
        }
        for (lane, at) in redis.lanes() {
            if !self.tracker.follows(lane) {
                self.tracker.follow(lane.clone(), Sequence::NONE);
            }
            self.tracker.learn(lane, at.last);
        }
        self.catch_up(redis);
    }

    fn catch_up(&mut self, redis: &Redis) {
        while let Some((lane, upto)) = self.tracker.behind() {
            let track = self.tracker.get(&lane).expect("is followed");
            let mut reader = LaneReader::new(lane.clone(), track.position, track.scan);
            match reader.turn(redis.read(&lane, reader.wants()), upto) {
                Found::Items(items) => {
                    self.tracker.advance(&lane, reader.position(), reader.scan());
                    self.pass_on(&lane, items);
                }
                Found::NotYet => self.tracker.give_up(&lane),
            }
        }
    }

    fn pass_on(&self, lane: &runcast_protocol::Lane, items: Vec<Item>) {
        for view in self.views.iter().filter(|view| view.selection().has_lane(lane)) {
            for item in &items {
                match item {
                    Item::Message(entry) => view.push(lane, std::slice::from_ref(entry)),
                    Item::Gap(gap) => view.push_gap(gap),
                }
            }
        }
    }
}

/// The lanes that a viewer reads from the streams, in turn.
pub type Readers = VecDeque<SharedReader>;
