//! What tracing costs: CPU time of sidecar and fan-out per message. A measurement, not a test: run it with
//! `cargo test --release -p runcast-testkit --test trace_cost -- --ignored --nocapture`.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "this is a measurement")]

use std::io::Write;
use std::time::Duration;

use runcast_testkit::{Collector, Fanout, Process, Redis, Sidecar};

/// So many lines at a time, so that the exporter's queue never overflows and no span is saved.
const LINES: usize = 40;
const BURSTS: usize = 400;
const PAUSE: Duration = Duration::from_millis(10);
const ROUNDS: usize = 3;

/// Microseconds of CPU time that a process has used, user and system (proc_pid_stat(5)).
fn cpu(process: &Process) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.pid())).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks: f64 = fields[11..13].iter().map(|ticks| ticks.parse::<f64>().unwrap()).sum();
    ticks * 1e6 / rustix::param::clock_ticks_per_second() as f64
}

/// What a message costs sidecar and fan-out; without a collector if there is no ratio.
async fn measure(ratio: Option<f64>) -> (f64, f64, usize) {
    let (redis, collector) = (Redis::start().await, Collector::start().await);
    let settings = ratio.map(|ratio| collector.settings(ratio).to_vec()).unwrap_or_default();
    let borrowed: Vec<_> = settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let mut fanout = Fanout::start_with(&redis.url(), &borrowed).await;
    let sidecar =
        settings.iter().fold(Sidecar::new(&redis.url(), "run-1", "var-1"), |sidecar, (name, value)| {
            sidecar.set(name, value)
        });
    let mut viewer = fanout.viewer("run-1", "channels=output");
    viewer.connect().await.unwrap();
    let mut agent = sidecar.pipe();
    let mut stdin = agent.child().stdin.take().unwrap();
    stdin.write_all(b"begin\n").unwrap();
    while viewer.history.text("var-1").is_empty() {
        viewer.next().await.unwrap().unwrap();
    }
    let line = format!("{}\n", "word ".repeat(20));
    let burst = line.repeat(LINES);
    let before = (cpu(&agent), cpu(fanout.process()));
    let writing = tokio::spawn(async move {
        let mut tick = tokio::time::interval(PAUSE);
        for _ in 0..BURSTS {
            tick.tick().await;
            stdin.write_all(burst.as_bytes()).unwrap();
        }
        stdin.write_all(b"over\n").unwrap();
        stdin
    });
    let first = viewer.history.position("output/var-1");
    while !viewer.next().await.unwrap().unwrap().data.contains("over\\n") {}
    let messages = (viewer.history.position("output/var-1") - first) as f64;
    // The last spans are on their way for as long as this.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let after = (cpu(&agent), cpu(fanout.process()));
    drop(writing.await.unwrap());
    ((after.0 - before.0) / messages, (after.1 - before.1) / messages, collector.spans().len())
}

#[ignore = "a measurement of some minutes"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_tracing_costs() {
    let cases = [None, Some(0.0), Some(0.01), Some(1.0)];
    println!("| round | ratio | sidecar µs/message | fan-out µs/message | spans |");
    // In turns, so that what else the machine does meets all alike.
    for round in 1..=ROUNDS {
        for ratio in cases {
            let (sidecar, fanout, spans) = measure(ratio).await;
            let ratio = ratio.map_or("no collector".to_owned(), |ratio| ratio.to_string());
            println!("| {round} | {ratio} | {sidecar:.1} | {fanout:.1} | {spans} |");
        }
    }
}
