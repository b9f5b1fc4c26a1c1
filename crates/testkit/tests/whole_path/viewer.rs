//! A viewer that comes and goes, and what it must have seen.

use std::collections::BTreeMap;

use rand::Rng;
use rand::rngs::SmallRng;
use runcast_protocol::{Cursor, EventName, Gap, Lane, Message, sse};
use runcast_sse_fanout::ring_reader::RingReader;
use runcast_sse_fanout::view::{View, json};

use runcast_bus::{Found, Item};
use runcast_sse_fanout::shared_reader::SharedReader;

use crate::fanout::{Fanout, Readers};
use crate::pages::Pages;
use crate::redis::Redis;
use crate::truth::Truth;

pub struct Viewer {
    pub fanout: usize,
    view: usize,
    reading: Option<RingReader>,
    readers: Readers,
    /// The last event id it got.
    id: Cursor,
    seen: BTreeMap<Lane, u64>,
}

impl Viewer {
    pub fn new(number: usize) -> Self {
        let (fanout, view) = (number % 2, number / 2 % 2);
        let (readers, id, seen) = (Readers::new(), Cursor::default(), BTreeMap::new());
        Self { fanout, view, reading: None, readers, id, seen }
    }

    /// The connection is cut; it comes back to whichever fan-out, with its last id.
    pub fn leave(&mut self, fanout: usize) {
        self.reading = None;
        self.readers.clear();
        self.fanout = fanout;
    }

    pub fn step(
        &mut self,
        fanouts: &[Fanout],
        pages: &mut [Pages],
        redis: &Redis,
        truth: &Truth,
        rng: &mut SmallRng,
    ) {
        let view = &fanouts[self.fanout].views[self.view];
        let Some(reader) = &mut self.reading else {
            self.reading = RingReader::enter(&view.ring(), &self.id);
            if self.reading.is_none() {
                self.catch_up(view, &mut pages[self.fanout], redis, truth, rng);
            } else {
                self.readers.clear();
            }
            return;
        };
        let Some(frames) = reader.read(&view.ring()) else {
            assert!(reader.position().covers(&self.id), "falls back to before what was seen");
            self.reading = None;
            return;
        };
        // What did not arrive whole was not seen.
        let arrived = if rng.random_bool(0.1) { rng.random_range(0..=frames.len()) } else { frames.len() };
        self.take(&frames[..arrived], truth);
        if arrived < frames.len() {
            self.leave(rng.random_range(0..2));
        }
    }

    /// Reads a page of a lane that lies before the ring.
    fn catch_up(&mut self, view: &View, pages: &mut Pages, redis: &Redis, truth: &Truth, rng: &mut SmallRng) {
        let head = view.ring().head().clone();
        self.readers.retain(|reader| reader.position() < head.position(reader.lane()));
        if self.readers.is_empty() {
            let behind = head.lanes().filter(|(lane, position)| self.id.position(lane) < *position);
            let reader = |lane: Lane| SharedReader::new(lane.clone(), self.id.position(&lane));
            self.readers = behind.map(|(lane, _)| reader(lane)).collect();
        }
        let Some(mut reader) = self.readers.pop_front() else { return };
        let lane = reader.lane().clone();
        let found = pages.turn(&mut reader, head.position(&lane), redis, rng);
        self.readers.push_back(reader);
        let Found::Items(items) = found else { return };
        for item in items {
            let (last, name, data) = match &item {
                Item::Message(entry) => {
                    let name = EventName::Message(lane.channel.message_type());
                    (entry.sequence, name, entry.line.to_vec())
                }
                Item::Gap(gap) => (gap.last, EventName::Gap, json(gap)),
            };
            let (mut id, mut frame) = (self.id.clone(), Vec::new());
            id.set(&lane, last);
            sse::write_frame(&mut frame, &id.to_string(), name, &data);
            self.take(&frame, truth);
        }
    }

    fn take(&mut self, bytes: &[u8], truth: &Truth) {
        for event in sse::Parser::default().push(bytes) {
            let (lane, first, last) = if event.event == "gap" {
                let gap: Gap = serde_json::from_str(&event.data).expect("a gap");
                truth.may_miss(&gap.lane, gap.first.get()..=gap.last.get());
                // One gap is told to all; it may begin with what this viewer saw before a failover took it.
                let seen = self.seen.get(&gap.lane).copied().unwrap_or(0);
                let first = gap.first.get().max((seen + 1).min(gap.last.get()));
                (gap.lane, first, gap.last.get())
            } else {
                let message = Message::parse(event.data.as_bytes()).expect("a message");
                let number = message.sequence.get();
                let says = message.content.to_text().expect("text");
                assert!(
                    says == "gap" || says == number.to_string(),
                    "{}: {number} says {says}",
                    message.lane()
                );
                (message.lane(), number, number)
            };
            let seen = self.seen.entry(lane.clone()).or_default();
            assert_eq!(first, *seen + 1, "{lane}: lost, repeated or out of order");
            *seen = last;
            self.id = event.id.parse().expect("an id is a cursor");
            for (lane, position) in self.id.lanes() {
                let seen = self.seen.get(&lane).copied().unwrap_or(0);
                assert_eq!(seen, position.get(), "{lane}: the id says something else");
            }
        }
    }

    /// Whether it has seen all of its lanes up to where they stand.
    pub fn has_seen(&self, lanes: &BTreeMap<Lane, u64>, fanouts: &[Fanout]) -> bool {
        let selection = fanouts[self.fanout].views[self.view].selection();
        let mut own = lanes.iter().filter(|(lane, _)| selection.has_lane(lane));
        own.all(|(lane, last)| self.seen.get(lane).copied().unwrap_or(0) == *last)
    }
}
