//! Commands under whatever may happen: the control-plane issues, calls back and expires, the sidecar is
//! killed and started again, Redis lets it read late, agents answer or do not. By the rules of
//! `runcast_protocol`'s command module every command has one ending, and what was ended by the
//! control-plane before it was delivered never reaches the agent.
//!
//! Pure: no Redis, no clock. A failing seed is printed; `SEED=n` repeats it.

#![allow(clippy::unwrap_used, reason = "this is test code")]

use std::collections::BTreeMap;

use jiff::Timestamp;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use runcast_protocol::{
    Ack, Action, CommandId, Json, Message, MessageType, RunId, Sequence, Step, VariationId, Writer,
    merge_patch,
};
use runcast_publisher_sidecar::commands::inbox::{Due, Inbox, Receiver, Verdict};
use serde_json::{Value, json};

const SEEDS: u64 = 60;
const STEPS: usize = 250;

/// Redis: the two streams that matter.
#[derive(Default)]
struct Streams {
    control: Vec<Message>,
    acks: Vec<Ack>,
}

/// One life of a sidecar: what it knows, and acks that are not in Redis yet.
struct Life {
    inbox: Inbox,
    read: usize,
    unsent: Vec<Ack>,
}

struct World {
    rng: SmallRng,
    streams: Streams,
    life: Life,
    issued: u64,
    /// Each time a command reached the agent, how the streams stood then.
    handed: Vec<(CommandId, usize, usize)>,
}

fn me() -> VariationId {
    VariationId::new("a").unwrap()
}

impl Life {
    /// A start: own acks first, then the control stream from its beginning.
    fn begin(streams: &Streams) -> Self {
        let mut inbox = Inbox::new(me());
        streams.acks.iter().for_each(|ack| inbox.take_ack(ack));
        Self { inbox, read: 0, unsent: Vec::new() }
    }

    fn read(&mut self, streams: &Streams, up_to: usize) {
        for message in &streams.control[self.read..up_to] {
            self.inbox.take_control(message);
        }
        self.read = up_to;
    }

    fn say(&mut self, command: &CommandId, step: Step) -> bool {
        let is_new = self.inbox.judge(command, step) == Verdict::New;
        if is_new {
            let ack = Ack { command: command.clone(), step, reason: None, result: None };
            self.inbox.take_ack(&ack);
            self.unsent.push(ack);
        }
        is_new
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let streams = Streams::default();
        let life = Life::begin(&streams);
        let rng = SmallRng::seed_from_u64(seed);
        Self { rng, streams, life, issued: 0, handed: Vec::new() }
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    fn any_command(&mut self) -> CommandId {
        CommandId::new(format!("c{}", self.rng.random_range(1..=self.issued.max(1)))).unwrap()
    }

    fn write(&mut self, content: &Value) {
        let sequence = Sequence::new(self.streams.control.len() as u64 + 1).unwrap();
        self.streams.control.push(Message {
            timestamp: Timestamp::UNIX_EPOCH,
            run_id: RunId::new("r").unwrap(),
            variation_id: me(),
            sequence,
            kind: MessageType::Control,
            content: Json::of(content),
            metadata: Json::empty_object(),
            writer: Writer::Control,
            extra: Vec::new(),
        });
    }

    /// A command; now and then one that was issued before.
    fn issue(&mut self) {
        let id = if self.issued > 0 && self.chance(10) {
            self.any_command()
        } else {
            self.issued += 1;
            CommandId::new(format!("c{}", self.issued)).unwrap()
        };
        // The same id has the same content.
        let number: u64 = id.as_str()[1..].parse().unwrap();
        let action = if number.is_multiple_of(2) {
            json!({"action": "pause"})
        } else {
            json!({"action": "config", "patch": {format!("k{}", number % 5): number, "last": number}})
        };
        let mut content =
            json!({"step": "issued", "command": id, "deadline": "2026-01-10T10:30:00Z", "caller": "x"});
        content.as_object_mut().unwrap().extend(action.as_object().unwrap().clone());
        self.write(&content);
    }

    /// The control-plane ends a command if it may, by what is in Redis.
    fn end(&mut self) {
        let (id, expire) = (self.any_command(), self.chance(50));
        let said: Vec<Step> =
            self.streams.acks.iter().filter(|ack| ack.command == id).map(|ack| ack.step).collect();
        let may = if expire { !said.iter().any(|step| step.is_terminal()) } else { said.is_empty() };
        if may && self.issued > 0 && endings(&self.streams, &id).is_empty() {
            let step = if expire { "expired" } else { "cancelled" };
            let content = json!({"step": step, "command": id, "acks": self.streams.acks.len()});
            self.write(&content);
        }
    }

    /// Acks reach Redis, some of them.
    fn send(&mut self) {
        let count = self.rng.random_range(0..=self.life.unsent.len());
        self.streams.acks.extend(self.life.unsent.drain(..count));
    }

    fn read(&mut self) {
        let up_to = self.rng.random_range(self.life.read..=self.streams.control.len());
        self.life.read(&self.streams, up_to);
    }

    /// As the follower does: say it, have it in Redis, read to the end, hand over. Something may happen
    /// between any two of these.
    fn deliver(&mut self) {
        for due in self.life.inbox.due(Timestamp::UNIX_EPOCH, |_| None) {
            if let Due::Delivered(command) = due {
                self.life.say(&command, Step::Delivered);
            }
        }
        if self.chance(30) {
            self.end();
        }
        if self.chance(5) {
            return self.restart();
        }
        self.streams.acks.append(&mut self.life.unsent);
        if self.chance(30) {
            self.end();
        }
        self.life.read(&self.streams, self.streams.control.len());
        let read = self.streams.control.len();
        if self.chance(30) {
            self.end();
        }
        for order in self.life.inbox.to_hand_over() {
            let command = order.issued.command.clone();
            self.handed.push((command.clone(), read, self.streams.acks.len()));
            self.life.inbox.handed_over(&command, Receiver::Agent);
        }
    }

    fn answer(&mut self) {
        let Some((command, ..)) = self.handed.last().cloned() else { return };
        let command = if self.chance(50) { self.any_command() } else { command };
        if !self.handed.iter().any(|(handed, ..)| *handed == command) {
            return;
        }
        let step = [Step::Accepted, Step::Rejected, Step::Applied, Step::Failed][self.rng.random_range(0..4)];
        self.life.say(&command, step);
    }

    /// kill -9: what is not in Redis is gone.
    fn restart(&mut self) {
        self.life = Life::begin(&self.streams);
    }

    fn step(&mut self) {
        match self.rng.random_range(0..100) {
            0..20 => self.issue(),
            20..30 => self.end(),
            30..45 => self.send(),
            45..60 => self.read(),
            60..80 => self.deliver(),
            80..95 => self.answer(),
            95..97 => {
                self.life.inbox.begin_anew();
                self.life.read = 0;
            }
            _ => self.restart(),
        }
    }
}

/// The control-plane's endings of a command, and where they stand in the stream.
fn endings(streams: &Streams, command: &CommandId) -> Vec<(usize, Step)> {
    let of = |(at, message): (usize, &Message)| {
        let content: Value = message.content.read().ok()?;
        let step = match content["step"].as_str()? {
            "expired" => Step::Expired,
            "cancelled" => Step::Cancelled,
            _ => return None,
        };
        (content["command"] == command.as_str()).then_some((at, step))
    };
    streams.control.iter().enumerate().filter_map(of).collect()
}

fn check(world: &World) {
    for (command, read, _) in &world.handed {
        for (at, step) in endings(&world.streams, command) {
            assert!(at >= *read, "{command} was {step} before it was handed over");
            assert!(step != Step::Cancelled, "{command} was called back, and handed over");
        }
    }
    // In each life a command is handed over once at most; over all of them, only until it ended.
    for number in 1..=world.issued {
        let command = CommandId::new(format!("c{number}")).unwrap();
        let said = world.streams.acks.iter().filter(|ack| ack.command == command);
        let terminal: Vec<Step> = said.map(|ack| ack.step).filter(|step| step.is_terminal()).collect();
        let first =
            world.streams.acks.iter().position(|ack| ack.command == command && ack.step.is_terminal());
        assert!(terminal.len() <= 1, "{command} has ended {terminal:?}");
        if let Some(first) = first {
            let after = world.handed.iter().filter(|(handed, _, acks)| *handed == command && *acks > first);
            assert_eq!(after.count(), 0, "{command} was handed over after its end");
        }
    }
}

/// The configuration as RFC 7396 makes it of all that was issued and not taken back.
fn configuration(streams: &Streams) -> Value {
    let mut patches = BTreeMap::new();
    for (at, message) in streams.control.iter().enumerate() {
        let content: Value = message.content.read().unwrap();
        if let Some(patch) = content.get("patch") {
            patches.entry(content["command"].as_str().unwrap().to_owned()).or_insert((at, patch.clone()));
        }
    }
    let mut ordered: Vec<_> = patches.into_iter().collect();
    ordered.retain(|(command, _)| endings(streams, &CommandId::new(command).unwrap()).is_empty());
    ordered.sort_by_key(|(_, (at, _))| *at);
    let mut merged = json!({});
    ordered.iter().for_each(|(_, (_, patch))| merge_patch(&mut merged, patch));
    merged
}

#[test]
fn every_command_has_one_ending_and_what_was_called_back_is_never_handed_over() {
    let seeds = match std::env::var("SEED") {
        Ok(seed) => seed.parse().expect("a number")..=seed.parse().expect("a number"),
        Err(_) => 1..=SEEDS,
    };
    let (mut handed, mut ended) = (0, 0);
    for seed in seeds {
        println!("SEED={seed}");
        let mut world = World::new(seed);
        for _ in 0..STEPS {
            world.step();
        }
        check(&world);
        // At last everything is read, sent, handed over and answered: nothing is open for ever.
        world.restart();
        for _ in 0..2 {
            let all = world.streams.control.len();
            world.life.read(&world.streams, all);
            world.deliver();
        }
        let open: Vec<CommandId> = world.life.inbox.open().map(|(id, _)| id.clone()).collect();
        for command in &open {
            world.life.say(command, Step::Applied);
        }
        world.streams.acks.append(&mut world.life.unsent);
        check(&world);
        assert_eq!(world.life.inbox.open_count(), 0);
        let all = world.streams.control.len();
        world.life.read(&world.streams, all);
        assert_eq!(world.life.inbox.document().merged(), &configuration(&world.streams));
        handed += world.handed.len();
        ended += (1..=world.issued)
            .filter(|number| {
                !endings(&world.streams, &CommandId::new(format!("c{number}")).unwrap()).is_empty()
            })
            .count();
    }
    assert!(handed > 100 && ended > 20, "a test that cannot fail: {handed} handed over, {ended} ended");
}

#[test]
fn whoever_acts_only_on_what_is_said_here_knows_late_and_unreadable_commands() {
    let mut inbox = Inbox::new(me());
    let mut world = World::new(1);
    world.issue();
    world.write(&json!({"step": "issued", "command": "odd", "action": "fly", "deadline": "2026-01-10T10:30:00Z", "caller": "x"}));
    world.write(&json!({"step": "celebrated", "command": "party"}));
    world.streams.control.iter().for_each(|message| inbox.take_control(message));
    let due = |now: &str, refuse: fn(&Action) -> Option<String>| inbox.due(now.parse().unwrap(), refuse);
    let id = |text: &str| CommandId::new(text).unwrap();
    let odd = Due::Rejected(id("odd"), "this sidecar knows no action \"fly\"".into());
    assert_eq!(due("2026-01-10T10:30:04Z", |_| None), [Due::Delivered(id("c1")), odd.clone()]);
    let late = Due::Rejected(id("c1"), "its deadline had passed".into());
    assert_eq!(due("2026-01-10T10:30:06Z", |_| None), [late, odd.clone()]);
    let refused = Due::Rejected(id("c1"), "no".into());
    assert_eq!(due("2026-01-10T10:30:00Z", |_| Some("no".into())), [refused, odd]);
}
