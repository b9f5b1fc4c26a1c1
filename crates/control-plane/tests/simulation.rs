//! Several replicas and sidecars on one run, in thousands of random schedules: whoever reads all of it, in
//! whatever order, sees the same, and every command came to one end.

#![allow(clippy::unwrap_used, reason = "this is test code")]

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use rand::rngs::SmallRng;
use rand::seq::{IndexedMutRandom, IndexedRandom};
use rand::{Rng, SeedableRng};
use runcast_control_plane::plan::{self, Plan};
use runcast_control_plane::run_log::{Created, RunLog};
use runcast_protocol::{
    Ack, Action, Channel, CommandId, Control, Issued, Json, Lane, Message, RunId, Sequence, State, Step,
    VariationId,
};

const SEEDS: u64 = 1000;
const STEPS: usize = 150;
const REPLICAS: usize = 3;
const VARIATIONS: [&str; 2] = ["a", "b"];

/// What Redis has: the shared streams in order, and where the lanes stand.
#[derive(Default)]
struct Redis {
    streams: BTreeMap<Channel, Vec<Message>>,
    lanes: BTreeMap<Lane, Sequence>,
    clock: i64,
}

impl Redis {
    fn now(&mut self) -> Timestamp {
        self.clock += 1;
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs(self.clock)
    }

    fn at(&self, lane: &Lane) -> Sequence {
        self.lanes.get(lane).copied().unwrap_or_default()
    }

    fn add(&mut self, lane: &Lane, variation: &VariationId, content: Json) {
        let (timestamp, sequence) = (self.now(), self.at(lane).next());
        let message = Message {
            timestamp,
            run_id: RunId::new("r").unwrap(),
            variation_id: variation.clone(),
            sequence,
            kind: lane.channel.message_type(),
            content,
            metadata: Json::empty_object(),
            writer: lane.writer.clone(),
            extra: Vec::new(),
        };
        self.lanes.insert(lane.clone(), sequence);
        self.streams.entry(lane.channel).or_default().push(message);
    }

    /// decide.lua: on condition that the lanes stand where they were read.
    fn decide(&mut self, plan: &Plan, log: &RunLog) -> bool {
        let holds = self.at(&plan.lane) == log.position(&plan.lane)
            && plan.read.iter().all(|(lane, read)| self.at(lane) == *read);
        if holds {
            for (variation, content) in &plan.items {
                self.add(&plan.lane, variation, content.clone());
            }
        }
        holds
    }
}

/// A replica, or a watcher: a log, and how far each stream was read.
#[derive(Default)]
struct Reader {
    log: RunLog,
    read: BTreeMap<Channel, usize>,
}

impl Reader {
    fn read(&mut self, redis: &Redis, channel: Channel, most: usize) -> bool {
        let stream = redis.streams.get(&channel).map_or(&[][..], Vec::as_slice);
        let at = self.read.entry(channel).or_default();
        let new = &stream[*at..stream.len().min(at.saturating_add(most))];
        *at += new.len();
        for message in new {
            self.log.apply(message);
        }
        !new.is_empty()
    }
}

/// A sidecar with its agent.
struct Sidecar {
    variation: VariationId,
    read: usize,
    /// Command → how far it is here.
    known: BTreeMap<CommandId, Step>,
    done: BTreeSet<CommandId>,
}

impl Sidecar {
    /// Reads some of the control stream.
    fn read(&mut self, redis: &Redis, most: usize) {
        let stream = redis.streams.get(&Channel::Control).map_or(&[][..], Vec::as_slice);
        let upto = stream.len().min(self.read.saturating_add(most));
        for message in stream[self.read..upto].iter().filter(|message| message.variation_id == self.variation)
        {
            match message.content.read::<Control>().unwrap() {
                Control::Issued(issued) => {
                    self.known.entry(issued.command).or_insert(Step::Issued);
                }
                Control::Expired(ended) => drop(self.known.insert(ended.command, Step::Expired)),
                Control::Cancelled(ended) => drop(self.known.insert(ended.command, Step::Cancelled)),
            }
        }
        self.read = upto;
    }

    fn say(&self, redis: &mut Redis, command: &CommandId, step: Step) {
        let ack = Ack { command: command.clone(), step, reason: None, result: None };
        redis.add(&Lane::of(Channel::Acks, &self.variation), &self.variation, Json::of(&ack));
    }

    /// Goes a step on with a command, by the rule: `delivered` first, then the rest of the stream.
    fn step(&mut self, redis: &mut Redis, rng: &mut SmallRng) {
        let open: Vec<_> = self
            .known
            .iter()
            .filter(|(_, step)| !step.is_terminal())
            .map(|(id, step)| (id.clone(), *step))
            .collect();
        let Some((command, step)) = open.choose(rng).cloned() else { return };
        match step {
            Step::Issued => {
                self.say(redis, &command, Step::Delivered);
                self.known.insert(command.clone(), Step::Delivered);
            }
            Step::Delivered => {
                self.read(redis, usize::MAX);
                if !self.known[&command].is_terminal() {
                    assert!(self.done.insert(command.clone()), "handed over twice");
                    self.known.insert(command, Step::Accepted);
                }
            }
            // The agent has it, and says so some time, or never.
            Step::Accepted if rng.random_bool(0.5) => {
                self.say(redis, &command, Step::Applied);
                self.known.insert(command, Step::Applied);
            }
            _ => {}
        }
    }
}

fn run(seed: u64) {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut redis = Redis::default();
    let variations: Vec<_> = VARIATIONS.iter().map(|id| VariationId::new(id).unwrap()).collect();
    let mut replicas: Vec<Reader> = (0..REPLICAS).map(|_| Reader::default()).collect();
    let mut sidecars: Vec<_> = variations
        .iter()
        .map(|id| Sidecar { variation: id.clone(), read: 0, known: BTreeMap::new(), done: BTreeSet::new() })
        .collect();
    // All replicas create the run; one is first.
    for replica in &mut replicas {
        if !replica.log.exists() {
            redis.decide(&plan::create(&variations, &Created::default()).unwrap(), &replica.log);
        }
        replica.read(&redis, Channel::Status, usize::MAX);
    }
    let mut issued = 0;
    for _ in 0..STEPS {
        let replica = rng.random_range(0..REPLICAS);
        let channel = *[Channel::Control, Channel::Acks, Channel::Status].choose(&mut rng).unwrap();
        match rng.random_range(0..10) {
            0..=3 => drop(replicas[replica].read(&redis, channel, rng.random_range(1..4))),
            4 => {
                issued += 1;
                let command = CommandId::new(format!("c{issued}")).unwrap();
                let deadline = redis.now() + SignedDuration::from_secs(rng.random_range(1..60));
                let (caller, request_id) = (String::new(), Some(format!("{}", issued / 2)));
                let order =
                    Issued { command, action: Action::Pause, deadline, caller, request_id, everyone: false };
                let log = &replicas[replica].log;
                if log.by_request(order.request_id.as_deref().unwrap()).is_none() {
                    redis.decide(&plan::issue(&order, &variations).unwrap(), log);
                }
            }
            5 => {
                let now = redis.now();
                if let Some(plan) = plan::expire(&replicas[replica].log, now) {
                    redis.decide(&plan, &replicas[replica].log);
                }
            }
            6 => {
                let log = &replicas[replica].log;
                let ids: Vec<_> = log.commands().map(|command| command.issued.command.clone()).collect();
                if let Some(plan) = ids.choose(&mut rng).and_then(|id| plan::cancel(log, id, "", None)) {
                    redis.decide(&plan, log);
                }
            }
            7 => sidecars.choose_mut(&mut rng).unwrap().read(&redis, rng.random_range(1..4)),
            _ => {
                let sidecar = rng.random_range(0..sidecars.len());
                sidecars[sidecar].step(&mut redis, &mut rng);
            }
        }
    }
    // In the end everything expires that has come to no other end.
    redis.clock += 100;
    let mut last = Reader::default();
    while [Channel::Acks, Channel::Control, Channel::Status]
        .map(|channel| last.read(&redis, channel, 7))
        .contains(&true)
    {}
    let now = redis.now();
    if let Some(plan) = plan::expire(&last.log, now) {
        assert!(redis.decide(&plan, &last.log), "it has read all there is");
    }
    check(&redis, &sidecars, &mut rng);
}

fn check(redis: &Redis, sidecars: &[Sidecar], rng: &mut SmallRng) {
    let mut seen: Vec<BTreeMap<_, _>> = Vec::new();
    for _ in 0..3 {
        let mut reader = Reader::default();
        let mut channels = vec![Channel::Control, Channel::Acks, Channel::Status];
        while let Some(channel) = channels.choose(rng).copied() {
            if !reader.read(redis, channel, rng.random_range(1..5)) {
                channels.retain(|other| *other != channel);
            }
        }
        let lives = reader.log.commands().flat_map(|command| {
            let id = &command.issued.command;
            command.lives.iter().map(move |(variation, life)| ((id.clone(), variation.clone()), life.clone()))
        });
        seen.push(lives.collect());
        assert_eq!(reader.log.state(), State::Pending);
        let requests: Vec<_> =
            reader.log.commands().map(|command| command.issued.request_id.clone()).collect();
        let distinct: BTreeSet<_> = requests.iter().collect();
        assert_eq!(distinct.len(), requests.len(), "an idempotency key stands for one command");
    }
    assert!(seen.iter().all(|lives| *lives == seen[0]), "the order of reading makes no difference");
    for ((command, variation), life) in &seen[0] {
        let ends = life.steps().filter(|taken| taken.step.is_terminal()).count();
        assert_eq!(ends, 1, "{command} of {variation}: {life:?}");
        let sidecar = sidecars.iter().find(|sidecar| sidecar.variation == *variation).unwrap();
        let done = sidecar.done.contains(command);
        let delivered = life.steps().any(|taken| taken.step == Step::Delivered);
        match life.step() {
            Step::Applied => assert!(done),
            Step::Cancelled => assert!(!done, "{command} was called back and done"),
            Step::Expired => assert!(delivered || !done, "{command} expired undelivered and was done"),
            other => panic!("{command} ended {other}"),
        }
    }
}

#[test]
fn every_command_comes_to_one_end_whoever_decides_and_reads() {
    for seed in 0..SEEDS {
        let outcome = std::panic::catch_unwind(|| run(seed));
        if let Err(panic) = outcome {
            eprintln!("seed {seed}");
            std::panic::resume_unwind(panic);
        }
    }
}
