//! `make chaos`: real services under real faults. Agents write numbered, checksummed lines through
//! real sidecars, viewers read them over SSE and reconnect at random, a nemesis breaks things. Each
//! viewer checks what it sees as it comes; at the end every one must have seen every accepted line
//! once and in order, but for gaps, each of which must be of messages that Redis no longer has.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a test program")]

mod agents;
mod kept;
mod line;
mod nemesis;
mod owner;
mod record;
mod report;
mod silences;
mod topology;
mod watchers;
mod writes;

use std::time::Duration;

use clap::Parser;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use runcast_testkit::Fanout;

use crate::agents::Agents;
use crate::nemesis::{Fault, Nemesis};
use crate::owner::Owner;
use crate::record::Record;
use crate::report::{Report, Timeline};
use crate::topology::{Kind, Topology};
use crate::watchers::Watchers;
use crate::writes::Writes;

/// Breaks things while agents write and viewers watch, and checks that nobody misses a word.
#[derive(Debug, Clone, Parser)]
#[command(name = "chaos")]
struct Options {
    /// Which Redis to run against.
    #[arg(long, value_enum, default_value = "sentinel")]
    topology: Kind,
    /// How long things are broken, in seconds; healing and checking come after.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Repeats a schedule. Without it a new one is chosen, and printed.
    #[arg(long)]
    seed: Option<u64>,
    /// Agents, each with a sidecar of its own.
    #[arg(long, default_value_t = 5)]
    agents: usize,
    /// Lines a second, all agents together.
    #[arg(long, default_value_t = 1000)]
    rate: u64,
    /// Viewers, beside a steady one that measures.
    #[arg(long, default_value_t = 5)]
    viewers: usize,
    /// Faults to choose from; all that the topology knows, if not given.
    #[arg(long, value_enum, value_delimiter = ',')]
    faults: Vec<Fault>,
    /// The faults one after the other, instead of by chance.
    #[arg(long)]
    in_order: bool,
    /// Seconds between the end of one fault and the next.
    #[arg(long, default_value_t = 3)]
    pause: u64,
    /// Stop after so many faults.
    #[arg(long, default_value_t = u64::MAX)]
    count: u64,
    /// Sidecars let go of a message as soon as it is appended, instead of when it is safe: proof
    /// that the harness would notice.
    #[arg(long)]
    forget: bool,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let options = Options::parse();
    let seed = options.seed.unwrap_or_else(rand::random);
    println!("seed {seed}: {options:?}");
    let mut rng = SmallRng::seed_from_u64(seed);
    let timeline = Timeline::new();

    let topology = Topology::start(options.topology).await;
    timeline.tell("redis is up");
    let user = topology.settings("runcast-fanout");
    let user: Vec<_> = user.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let fanout = async || Fanout::start_with(&topology.url(), &user).await;
    let fanouts = [fanout().await, fanout().await];
    let record = Record::start(&topology).await;
    let owner = Owner::start(&topology, options.agents).await;
    let ports = [fanouts[0].port(), fanouts[1].port()];
    let agents = Agents::start(&topology.url(), &owner.user_of_run(), &options).await;
    let watchers = Watchers::start(ports, options.viewers, seed);
    let writes = Writes::watch(agents.handle().sockets());
    timeline.tell("agents write, viewers watch");

    let mut nemesis = Nemesis::new(topology, fanouts, agents.handle(), options.faults.clone(), timeline);
    let until = tokio::time::Instant::now() + Duration::from_secs(options.seconds);
    nemesis.rage(&mut rng, until, &options).await;
    nemesis.heal().await;
    timeline.tell("healed; agents finish");
    let writes = writes.finish().await;
    // What follows waits for what may never come then.
    let refusals = nemesis.refusals().await;
    assert!(refusals.is_empty(), "a user lacks rights, see charts/runcast/files/users.acl: {refusals:#?}");
    let written = agents.finish().await;
    let seen = watchers.finish().await;
    let kept = nemesis.kept().await;
    let evicted = nemesis.outages.iter().any(|outage| outage.fault == Fault::FillMemory);
    let mut problems = record.check(evicted).await;
    problems.extend(nemesis.refusals().await);
    problems.extend(owner.refusals());
    let failures = Report { timeline, nemesis: &nemesis, written, seen, writes, kept, problems }.print();
    if failures > 0 {
        println!("{failures} failures; repeat with --seed {seed}");
        std::process::exit(1);
    }
    println!("nothing lost, repeated or reordered; seed {seed}");
}
