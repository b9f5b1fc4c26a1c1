//! A model of Redis: what append.lua, read.lua and the fence do, a replica that lags behind, failovers.

use std::collections::BTreeMap;

use bytes::Bytes;
use rand::Rng;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use runcast_bus::{EntryId, LaneState, Page};
use runcast_protocol::{EventName, Lane, Sequence, Writer};

use crate::truth::{Mistake, Truth};

/// An append, or, with an empty batch, a probe or a claim.
#[derive(Debug, Clone)]
pub struct Append {
    pub lane: Lane,
    pub epoch: u64,
    pub first: Sequence,
    pub last: Sequence,
    pub after: Sequence,
    pub batch: Bytes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    Done { last: Sequence, epoch: u64 },
    Rewind { last: Sequence },
    Fenced,
}

/// What a write did, as it goes to the replica.
#[derive(Debug, Clone)]
struct Effect {
    lane: Lane,
    state: LaneState,
    entry: Option<Entry>,
}

#[derive(Debug, Clone)]
struct Entry {
    id: (u64, u64),
    lane: Lane,
    first: Sequence,
    last: Sequence,
    batch: Bytes,
}

/// One server's data.
#[derive(Debug, Clone, Default)]
struct Server {
    streams: BTreeMap<String, Vec<Entry>>,
    lanes: BTreeMap<Lane, LaneState>,
}

/// A primary and its replica.
pub struct Redis {
    primary: Server,
    replica: Server,
    /// What the replica does not have yet.
    unreplicated: Vec<Effect>,
    /// Milliseconds of the primary's clock.
    clock: u64,
    /// Most entries of a stream.
    limit: usize,
    /// What pub/sub has under way, to each subscriber.
    pub under_way: Vec<Vec<Bytes>>,
    pub mistake: Option<Mistake>,
}

/// All variations share the stream of a channel that has several writers.
fn stream(lane: &Lane) -> String {
    if lane.channel.has_one_writer() { lane.to_string() } else { lane.channel.to_string() }
}

impl Server {
    fn apply(&mut self, effect: Effect, limit: usize) -> Vec<Entry> {
        self.lanes.insert(effect.lane, effect.state);
        let Some(entry) = effect.entry else { return Vec::new() };
        let stream = self.streams.entry(stream(&entry.lane)).or_default();
        stream.push(entry);
        stream.drain(..stream.len().saturating_sub(limit)).collect()
    }
}

impl Redis {
    pub fn new(subscribers: usize, limit: usize, mistake: Option<Mistake>) -> Self {
        Self {
            primary: Server::default(),
            replica: Server::default(),
            unreplicated: Vec::new(),
            clock: 1_000_000,
            limit,
            under_way: vec![Vec::new(); subscribers],
            mistake,
        }
    }

    pub fn append(&mut self, append: &Append, truth: &mut Truth, rng: &mut SmallRng) -> Reply {
        let none = LaneState { last: Sequence::NONE, epoch: 0 };
        let mut state = self.primary.lanes.get(&append.lane).copied().unwrap_or(none);
        if append.epoch != 0 && append.epoch < state.epoch {
            return Reply::Fenced;
        }
        let (repeats, twice) = (append.last <= state.last, self.mistake == Some(Mistake::AppendsTwice));
        let mut entry = None;
        if !append.batch.is_empty() && (!repeats || twice) {
            let follows = append.after == state.last && append.first > state.last;
            if !follows && !repeats && self.mistake != Some(Mistake::TakesAnyPosition) {
                return Reply::Rewind { last: state.last };
            }
            entry = Some(self.add(append, rng));
            state.last = state.last.max(append.last);
        }
        state.epoch = if append.epoch == 0 { state.epoch + 1 } else { append.epoch };
        let effect = Effect { lane: append.lane.clone(), state, entry };
        self.unreplicated.push(effect.clone());
        for trimmed in self.primary.apply(effect, self.limit) {
            truth.excuse(&trimmed.lane, trimmed.first.get()..=trimmed.last.get());
        }
        Reply::Done { last: state.last, epoch: state.epoch }
    }

    /// Gives the entry its ID and publishes it: to each subscriber never, once or twice.
    fn add(&mut self, append: &Append, rng: &mut SmallRng) -> Entry {
        self.clock += rng.random_range(0..3);
        let Append { lane, first, last, batch, .. } = append.clone();
        let top = self.primary.streams.get(&stream(&lane)).and_then(|entries| entries.last());
        let id = match top {
            _ if lane.channel.has_one_writer() => (last.get(), 0),
            Some(top) if top.id.0 >= self.clock => (top.id.0, top.id.1 + 1),
            _ => (self.clock, 0),
        };
        for way in &mut self.under_way {
            let copies = [0, 1, 1, 1, 2].choose(rng).copied().unwrap_or(1);
            way.extend(std::iter::repeat_n(&batch, copies).cloned());
        }
        Entry { id, lane, first, last, batch }
    }

    pub fn replicate(&mut self, upto: usize) {
        for effect in self.unreplicated.drain(..upto.min(self.unreplicated.len())) {
            self.replica.apply(effect, self.limit);
        }
    }

    /// The replica becomes the primary, with a clock of its own.
    pub fn fail_over(&mut self, rng: &mut SmallRng) {
        self.unreplicated.clear();
        self.primary = self.replica.clone();
        self.clock = self.clock + 50 - rng.random_range(0..100);
    }

    pub fn lanes(&self) -> &BTreeMap<Lane, LaneState> {
        &self.primary.lanes
    }

    pub fn stands(&self, lane: &Lane) -> Sequence {
        self.primary.lanes.get(lane).map_or(Sequence::NONE, |state| state.last)
    }

    pub fn read(&self, lane: &Lane, (after, count): (EntryId, usize)) -> Page {
        let id = |entry: &Entry| -> EntryId {
            format!("{}-{}", entry.id.0, entry.id.1).parse().expect("is an ID")
        };
        let entries = self.primary.streams.get(&stream(lane)).map_or(&[][..], Vec::as_slice);
        let found: Vec<_> = entries.iter().filter(|entry| id(entry) > after).take(count).collect();
        Page {
            lane: self.primary.lanes.get(lane).copied(),
            end: found.last().map_or(after, |entry| id(entry)),
            is_last: found.len() < count,
            batches: found.into_iter().map(|entry| entry.batch.clone()).collect(),
        }
    }

    /// The batches of one lane that are there, first and last number of each.
    pub fn batches(&self, lane: &Lane) -> Vec<(u64, u64)> {
        let entries = self.primary.streams.get(&stream(lane)).map_or(&[][..], Vec::as_slice);
        let own = entries.iter().filter(|entry| entry.lane == *lane);
        own.map(|entry| (entry.first.get(), entry.last.get())).collect()
    }
}

/// A message as it stands in a batch. What it says is its number, unless it stands for others.
pub fn line(lane: &Lane, number: Sequence, says: &str) -> String {
    let Writer::Variation(variation) = &lane.writer else { unreachable!("only sidecars write here") };
    let kind = EventName::Message(lane.channel.message_type()).as_str();
    format!(
        r#"{{"timestamp":"2026-01-10T10:30:00.123456Z","run_id":"r","variation_id":"{variation}","sequence":{number},"type":"{kind}","content":"{says}","metadata":{{}}}}"#
    )
}
