//! One lane's side of a sidecar: the real queue, a journal that survives it, appends that fail.

use bytes::Bytes;
use rand::Rng;
use rand::rngs::SmallRng;
use runcast_bus::EntryId;
use runcast_protocol::{Batch, BatchWriter, Channel, Lane, Sequence};
use runcast_publisher_sidecar::lane_queue::{BatchLimits, Comparison, LaneQueue, Standing};

use crate::redis::{Append, Redis, Reply, line};
use crate::truth::{Mistake, Truth};

/// Bytes of the queue; each message takes ten.
const MAX_BYTES: usize = 400;

/// A message that was taken; what it says is its number, since all lanes begin at 0.
#[derive(Debug, Clone, Copy)]
enum Item {
    Record(u64),
    /// Stands for those that were dropped before it.
    Marker,
}

/// What survives a kill -9.
#[derive(Default)]
struct Journal {
    origin: Option<Sequence>,
    taken: u64,
    safe: u64,
}

pub struct Sidecar {
    pub lane: Lane,
    queue: LaneQueue<Item>,
    journal: Journal,
    /// 0 before the claim.
    epoch: u64,
    in_flight: Option<Append>,
    /// A command that timed out here and may still arrive there.
    late: Option<Append>,
    /// The highest number that was ever handed to Redis.
    sent: u64,
    /// Where Redis stood at the last look.
    stood: Sequence,
    mistake: Option<Mistake>,
}

impl Sidecar {
    pub fn new(lane: Lane, mistake: Option<Mistake>) -> Self {
        Self {
            lane,
            queue: LaneQueue::new(MAX_BYTES),
            journal: Journal::default(),
            epoch: 0,
            in_flight: None,
            late: None,
            sent: 0,
            stood: Sequence::NONE,
            mistake,
        }
    }

    pub fn step(&mut self, redis: &mut Redis, truth: &mut Truth, rng: &mut SmallRng) {
        match rng.random_range(0..20) {
            0..=7 => self.push(),
            8..=14 => self.send(redis, truth, rng, true),
            15 | 16 => self.confirm(redis, truth, rng),
            17 if self.late.is_some() => {
                let late = self.late.take().expect("is some");
                redis.append(&late, truth, rng);
            }
            18 if self.lane.channel == Channel::Logs => self.drop_oldest(truth, rng),
            18 => self.bury(truth, rng),
            19 if rng.random_bool(0.2) => self.kill(truth),
            _ => {}
        }
    }

    fn push(&mut self) {
        let number = self.journal.taken + 1;
        if self.queue.push(Item::Record(number), 10).is_ok() {
            self.journal.taken = number;
        }
    }

    fn line(lane: &Lane, item: Item, number: Sequence) -> String {
        match item {
            Item::Record(says) => line(lane, number, &says.to_string()),
            Item::Marker => line(lane, number, "gap"),
        }
    }

    /// Claims the lane, or sends what is in flight or comes next. An attempt may fail in two ways.
    fn send(&mut self, redis: &mut Redis, truth: &mut Truth, rng: &mut SmallRng, may_fail: bool) {
        if self.epoch == 0 {
            return self.claim(redis, truth, rng);
        }
        if self.in_flight.is_none() {
            let limits = BatchLimits { messages: rng.random_range(1..6), bytes: 1_000 };
            let Some(cut) = self.queue.cut(limits) else { return };
            let mut batch = BatchWriter::default();
            for (number, item) in self.queue.items_mut(cut) {
                batch.push(Self::line(&self.lane, *item, number).as_bytes());
            }
            self.sent = self.sent.max(cut.last.get());
            let (lane, epoch) = (self.lane.clone(), self.epoch);
            let batch = batch.finish(usize::MAX);
            self.in_flight =
                Some(Append { lane, epoch, first: cut.first, last: cut.last, after: cut.after, batch });
        }
        let append = self.in_flight.clone().expect("was just made");
        match rng.random_range(0..4) {
            0 if may_fail => self.late = Some(append),
            1 if may_fail => drop(redis.append(&append, truth, rng)),
            _ => {
                let reply = redis.append(&append, truth, rng);
                self.in_flight = None;
                match reply {
                    Reply::Done { last, .. } | Reply::Rewind { last } => self.stands_at(last, truth),
                    // After a failover that took its claim, a command of the process before may have
                    // the higher epoch: this one stops, and is started again.
                    Reply::Fenced => self.kill(truth),
                }
            }
        }
    }

    fn claim(&mut self, redis: &mut Redis, truth: &mut Truth, rng: &mut SmallRng) {
        let none = Sequence::NONE;
        let (lane, batch) = (self.lane.clone(), Bytes::new());
        let claim = Append { lane, epoch: 0, first: none, last: none, after: none, batch };
        let Reply::Done { last, epoch } = redis.append(&claim, truth, rng) else { panic!("a claim") };
        if rng.random_bool(0.2) {
            return; // The answer is lost.
        }
        let found = self.compare(redis, last);
        self.epoch = epoch;
        match self.queue.claimed(last, found) {
            Standing::Sound => {}
            Standing::Hole { lost } => self.hole(last, lost, truth),
            Standing::Ahead => panic!("{}: nobody else writes", self.lane),
        }
        self.mark_missing();
        self.note_safe();
        self.journal.origin = self.queue.origin();
    }

    fn compare(&self, redis: &Redis, last: Sequence) -> Comparison {
        let mut found = Comparison::default();
        let Some(after) = self.queue.compare_after(last) else { return found };
        for payload in redis.read(&self.lane, (EntryId::default(), usize::MAX)).batches {
            let batch = Batch::parse(payload).expect("a batch");
            let ours = batch.entries.iter().filter(|_| batch.lane == self.lane);
            for entry in ours.filter(|entry| entry.sequence > after) {
                let same = |item: &Item| match item {
                    Item::Marker => None,
                    item => Some(Self::line(&self.lane, *item, entry.sequence).as_bytes() == entry.line),
                };
                found.see(entry.sequence, self.queue.is_ours(entry.sequence, same));
            }
        }
        found
    }

    fn stands_at(&mut self, last: Sequence, truth: &Truth) {
        match self.queue.stands_at(last) {
            Standing::Sound => {}
            Standing::Hole { lost } => {
                self.hole(last, lost, truth);
                self.mark_missing();
            }
            Standing::Ahead => panic!("{}: redis is ahead at {last}", self.lane),
        }
        if self.mistake == Some(Mistake::TrimsOnAppend) {
            self.queue.secure(last);
            self.note_safe();
        }
    }

    fn hole(&self, last: Sequence, lost: u64, truth: &Truth) {
        truth.may_miss(&self.lane, last.get() + 1..=last.get() + lost);
    }

    /// Asks where the lane stands and whether that is replicated, as one server tells it.
    fn confirm(&mut self, redis: &mut Redis, truth: &Truth, rng: &mut SmallRng) {
        if self.epoch == 0 || self.in_flight.is_some() {
            return;
        }
        let last = redis.stands(&self.lane);
        if self.mistake == Some(Mistake::AsksTwoServers) && rng.random_bool(0.5) {
            redis.replicate(usize::MAX);
            self.queue.secure(self.stood);
            return self.note_safe();
        }
        self.stands_at(last, truth);
        self.stood = last;
        if rng.random_bool(0.6) {
            redis.replicate(usize::MAX);
            self.queue.secure(last);
            self.note_safe();
        }
    }

    fn mark_missing(&mut self) {
        if self.lane.channel == Channel::Logs {
            self.queue.stand_in(Item::Marker, 0);
        }
    }

    fn note_safe(&mut self) {
        self.journal.safe = self.journal.safe.max(self.queue.safe_count());
    }

    /// There is no room: the oldest that were never sent go, and a marker takes the last one's place.
    fn drop_oldest(&mut self, truth: &mut Truth, rng: &mut SmallRng) {
        let bytes = rng.random_range(1..60);
        let dropped = self.queue.give_up_oldest(bytes, |_| {}, |_, _| Some((Item::Marker, 0)));
        if let Some((first, last)) = dropped {
            truth.excuse(&self.lane, first..last);
            // What was sent before them is in their way.
            self.journal.safe = last;
        }
    }

    /// Redis will not have the next message.
    fn bury(&mut self, truth: &mut Truth, rng: &mut SmallRng) {
        if self.in_flight.is_some() || self.epoch == 0 || rng.random_bool(0.7) {
            return;
        }
        let Some(cut) = self.queue.cut(BatchLimits { messages: 1, bytes: 1 }) else { return };
        // What arrived once is no dead letter.
        if cut.first.get() > self.sent {
            self.queue.give_up(cut.first);
            truth.excuse(&self.lane, [cut.first.get()]);
        }
    }

    /// kill -9, and a restart with the journal. What was held in memory only is gone.
    fn kill(&mut self, truth: &mut Truth) {
        truth.excuse(&self.lane, self.queue.safe_count() + 1..=self.journal.safe);
        self.late = self.in_flight.take().or(self.late.take());
        self.epoch = 0;
        let Journal { origin, taken, safe } = self.journal;
        let left = (safe + 1..=taken).map(|number| Some((Item::Record(number), 10)));
        self.queue = LaneQueue::resumed(MAX_BYTES, origin, safe, left);
    }

    /// Nothing fails any more: everything goes to Redis. Returns how many messages were accepted.
    pub fn settle(&mut self, redis: &mut Redis, truth: &mut Truth, rng: &mut SmallRng) -> u64 {
        self.late = None;
        for _ in 0..10_000 {
            if self.epoch != 0 && self.in_flight.is_none() {
                self.stands_at(redis.stands(&self.lane), truth);
                if self.queue.pending() == 0 {
                    return self.journal.taken;
                }
            }
            self.send(redis, truth, rng, false);
        }
        panic!("{}: never settles", self.lane);
    }
}
