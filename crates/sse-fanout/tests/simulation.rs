//! The pure parts of the fan-out under thousands of random schedules: pub/sub that loses, repeats
//! and reorders, a feed that reads what it missed, a small ring, viewers that come, go, fall behind
//! and come back with their cursor, on this replica or another. Every viewer must see every message
//! of every lane once and in order.

#![allow(clippy::unwrap_used, reason = "this is test code")]

use std::collections::BTreeMap;

use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use runcast_protocol::{Batch, Cursor, Entry, Lane, Placement, Selection, Sequence, sse};
use runcast_sse_fanout::ring::RingLimits;
use runcast_sse_fanout::ring_reader::RingReader;
use runcast_sse_fanout::tracker::Tracker;
use runcast_sse_fanout::view::View;

const SCHEDULES: u64 = 1000;
const STEPS: usize = 150;

/// What Redis holds: each lane's messages, and what pub/sub has under way to each replica.
struct World {
    lanes: BTreeMap<Lane, u64>,
    under_way: Vec<Vec<Batch>>,
}

/// One fan-out process.
struct Replica {
    tracker: Tracker,
    view: View,
}

struct Viewer {
    replica: usize,
    reading: Option<RingReader>,
    /// The last event id it got.
    id: Cursor,
    seen: BTreeMap<Lane, u64>,
}

fn batch(lane: &Lane, first: u64, last: u64) -> Batch {
    let entries = (first..=last).map(|number| {
        let variation = lane.writer.variation().expect("a variation's lane").clone();
        let line = Bytes::from(format!("{lane} {number}"));
        Entry { sequence: Sequence::new(number).unwrap(), variation, line }
    });
    Batch { lane: lane.clone(), entries: entries.collect() }
}

impl Replica {
    fn new(world: &World) -> Self {
        let mut tracker = Tracker::default();
        for (lane, last) in &world.lanes {
            tracker.follow(lane.clone(), Sequence::new(*last).unwrap());
        }
        let head = tracker.cursor(|_| true);
        Self {
            tracker,
            view: View::new(Selection::default(), head, RingLimits { frames: 8, bytes: 1 << 20 }),
        }
    }

    fn deliver(&mut self, batch: &Batch) {
        if let Some(Placement::Next(entries)) = self.tracker.offer(batch) {
            self.view.push(&batch.lane, entries);
        }
    }

    /// The periodic check against Redis, and reading what is missing.
    fn check(&mut self, world: &World) {
        for (lane, last) in &world.lanes {
            self.tracker.learn(lane, Sequence::new(*last).unwrap());
        }
        while let Some((lane, upto)) = self.tracker.behind() {
            let position = self.tracker.get(&lane).expect("followed").position;
            let missing = batch(&lane, position.next().get(), upto.get());
            self.tracker.advance(&lane, upto, runcast_bus::Scan::default());
            self.view.push(&lane, &missing.entries);
        }
    }
}

impl Viewer {
    fn step(&mut self, replicas: &[Replica], rng: &mut SmallRng) {
        let view = &replicas[self.replica].view;
        let Some(reader) = &mut self.reading else {
            self.reading = RingReader::enter(&view.ring(), &self.id);
            if self.reading.is_none() {
                self.catch_up(view, rng);
            }
            return;
        };
        match reader.read(&view.ring()) {
            Some(frames) => {
                // The connection may be cut anywhere: what did not arrive whole was not seen.
                let arrived =
                    if rng.random_bool(0.2) { rng.random_range(0..=frames.len()) } else { frames.len() };
                self.take(&frames[..arrived]);
                if arrived < frames.len() {
                    self.reading = None;
                }
            }
            None => {
                assert!(reader.position().covers(&self.id), "a viewer falls back to before what it has seen");
                self.reading = None;
            }
        }
    }

    /// Reads a few messages of a lane that lies before the ring.
    fn catch_up(&mut self, view: &View, rng: &mut SmallRng) {
        let head = view.ring().head().clone();
        let behind: Vec<_> = head.lanes().filter(|(lane, last)| self.id.position(lane) < *last).collect();
        let Some((lane, last)) = behind.choose(rng) else { return };
        let first = self.id.position(lane).next();
        let some = Sequence::new(rng.random_range(first.get()..=last.get())).unwrap();
        for entry in batch(lane, first.get(), some.get()).entries {
            let mut id = self.id.clone();
            id.set(lane, entry.sequence);
            let mut frame = Vec::new();
            sse::write_frame(
                &mut frame,
                &id.to_string(),
                runcast_protocol::EventName::Message(lane.channel.message_type()),
                &entry.line,
            );
            self.take(&frame);
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        for event in sse::Parser::default().push(bytes) {
            let (lane, number) = event.data.split_once(' ').expect("lane and number");
            let (lane, number): (Lane, u64) = (lane.parse().unwrap(), number.parse().unwrap());
            let last = self.seen.entry(lane.clone()).or_default();
            assert_eq!(number, *last + 1, "{lane}: lost, repeated or out of order");
            *last = number;
            self.id = event.id.parse().expect("an id is a cursor");
            for (lane, position) in self.id.lanes() {
                assert_eq!(
                    self.seen.get(&lane).copied().unwrap_or(0),
                    position.get(),
                    "{lane}: the id says something else"
                );
            }
        }
    }
}

fn schedule(seed: u64) {
    let mut rng = SmallRng::seed_from_u64(seed);
    let lanes = ["output/a", "output/b", "logs/a", "status/a"].map(|lane| (lane.parse().unwrap(), 0));
    let mut world = World { lanes: lanes.into(), under_way: vec![Vec::new(); 2] };
    let mut replicas = vec![Replica::new(&world), Replica::new(&world)];
    let mut viewers: Vec<_> = (0..4)
        .map(|number| Viewer {
            replica: number % 2,
            reading: None,
            id: Cursor::default(),
            seen: BTreeMap::new(),
        })
        .collect();
    for _ in 0..STEPS {
        match rng.random_range(0..12) {
            0..=3 => {
                let names: Vec<_> = world.lanes.keys().cloned().collect();
                let lane = names.choose(&mut rng).unwrap();
                let last = world.lanes.get_mut(lane).unwrap();
                let sent = batch(lane, *last + 1, *last + rng.random_range(1..5));
                *last = sent.last().get();
                for way in &mut world.under_way {
                    // Lost, once, or twice.
                    for _ in 0..[0, 1, 1, 1, 2].choose(&mut rng).copied().unwrap() {
                        way.push(sent.clone());
                    }
                }
            }
            4..=6 => {
                let replica = rng.random_range(0..2);
                if !world.under_way[replica].is_empty() {
                    let index = if rng.random_bool(0.8) {
                        0
                    } else {
                        rng.random_range(0..world.under_way[replica].len())
                    };
                    let arrived = world.under_way[replica].remove(index);
                    replicas[replica].deliver(&arrived);
                }
            }
            7 => replicas[rng.random_range(0..2)].check(&world),
            8 => {
                // Leaves, and comes back to whichever replica.
                let viewer = rng.random_range(0..viewers.len());
                viewers[viewer].reading = None;
                viewers[viewer].replica = rng.random_range(0..2);
            }
            9 if rng.random_bool(0.1) => {
                // kill -9 of a replica, and its restart.
                let replica = rng.random_range(0..2);
                replicas[replica] = Replica::new(&world);
                world.under_way[replica].clear();
                viewers
                    .iter_mut()
                    .filter(|viewer| viewer.replica == replica)
                    .for_each(|viewer| viewer.reading = None);
            }
            _ => {
                let viewer = rng.random_range(0..viewers.len());
                viewers[viewer].step(&replicas, &mut rng);
            }
        }
    }
    for replica in &mut replicas {
        replica.check(&world);
    }
    for viewer in &mut viewers {
        for _ in 0..10_000 {
            if viewer.seen.values().sum::<u64>() == world.lanes.values().sum::<u64>() {
                break;
            }
            viewer.step(&replicas, &mut rng);
        }
        let missing: Vec<_> = world
            .lanes
            .iter()
            .filter(|(lane, last)| viewer.seen.get(*lane).copied().unwrap_or(0) != **last)
            .collect();
        assert!(missing.is_empty(), "not all was seen: {missing:?}");
    }
}

#[test]
fn every_viewer_sees_every_message_once_and_in_order() {
    let seeds = match std::env::var("SEED") {
        Ok(seed) => seed.parse().map(|seed| seed..seed + 1).expect("SEED is a number"),
        Err(_) => 0..SCHEDULES,
    };
    for seed in seeds {
        if let Err(failure) = std::panic::catch_unwind(|| schedule(seed)) {
            eprintln!("failing schedule: SEED={seed}");
            std::panic::resume_unwind(failure);
        }
    }
}
