//! How long a command takes, from its being issued to `applied` in Redis: pause and resume of an agent
//! that the sidecar started, in turn.
//!
//!     cargo run --release -p runcast-publisher-sidecar --example command_latency -- [COUNT] [LINES_PER_SECOND]
//!
//! With a rate, the agent says so many lines a second meanwhile. Needs the sidecar's binary beside it.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "it is a measurement")]

use std::process::Stdio;
use std::time::{Duration, Instant};

use runcast_bus::{Bus, Decided, Decision, Inbox, Incoming, Limits, RedisConfig, Subscriber};
use runcast_protocol::{Ack, Batch, Lane, Message, RunId, Sequence, Step, VariationId, keys, timestamp};
use runcast_testkit::{Process, Redis, Sidecar};

const LIMITS: Limits = Limits { ttl: Duration::from_secs(600), entries: 100_000 };

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<u64>().unwrap());
    let (count, rate) = (arguments.next().unwrap_or(200), arguments.next().unwrap_or(0));
    let redis = Redis::start().await;
    let mut command = Sidecar::new(&redis.url(), "r", "a").command("exec");
    // Twenty writes a second of as many lines as that takes, or nothing at all.
    let speak = format!(
        "import time,sys\nwhile True:\n  for _ in range({}): print('a line of some length', flush=True)\n  time.sleep(0.05)",
        rate / 20
    );
    command.args(["--", "python3", "-c", &speak]).stdin(Stdio::null()).stdout(Stdio::null());
    let _process = Process::start("sidecar", command);
    let bus = Bus::connect(&RedisConfig::new(redis.url())).unwrap();
    let run = RunId::new("r").unwrap();
    let acks: Lane = "acks/a".parse().unwrap();
    let mut inbox = Subscriber::connect(&bus).unwrap().inbox(4096);
    inbox.subscribe([keys::stream(&run, &acks)]).await;
    let mut latencies = Vec::new();
    for number in 1..=count + 10 {
        let issued = Instant::now();
        issue(&bus, &run, number).await;
        applied(&mut inbox, &format!("c{number}")).await;
        if number > 10 {
            latencies.push(issued.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    latencies.sort_unstable();
    let at = |share: usize| latencies[(latencies.len() * share / 100).min(latencies.len() - 1)];
    println!("{count} commands, {rate} lines/s: p50 {:?}, p99 {:?}, max {:?}", at(50), at(99), at(100));
}

async fn issue(bus: &Bus, run: &RunId, number: u64) {
    let action = if number % 2 == 1 { "pause" } else { "resume" };
    let deadline = timestamp::Text(jiff::Timestamp::now() + jiff::SignedDuration::from_secs(30));
    let content = serde_json::json!({
        "step": "issued", "command": format!("c{number}"), "action": action, "deadline": deadline, "caller": "x",
    });
    let sequence = Sequence::new(number).unwrap();
    let message = Message {
        timestamp: timestamp::now(),
        run_id: run.clone(),
        variation_id: VariationId::new("a").unwrap(),
        sequence,
        kind: runcast_protocol::MessageType::Control,
        content: runcast_protocol::Json::of(&content),
        metadata: runcast_protocol::Json::empty_object(),
        writer: runcast_protocol::Writer::Control,
        extra: Vec::new(),
    };
    let lane = "control/@control".parse().unwrap();
    let (run, batch) = (run.clone(), message.to_line().into());
    let decision = Decision { run, lane, first: sequence, last: sequence, batch, read: Vec::new() };
    assert_eq!(bus.decide(decision, LIMITS).await.unwrap(), Decided::Done);
}

async fn applied(inbox: &mut Inbox, command: &str) {
    loop {
        let Incoming::Payload(payload) = inbox.next().await else { continue };
        for entry in Batch::parse(payload).unwrap().entries {
            let ack: Ack = Message::parse(&entry.line).unwrap().content.read().unwrap();
            if ack.command.as_str() == command && ack.step.is_terminal() {
                assert_eq!(ack.step, Step::Applied, "{ack:?}");
                return;
            }
        }
    }
}
