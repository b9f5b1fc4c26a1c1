//! How long a word takes from an agent's write to a viewer's socket: `make latency`.
//!
//! An agent's words go through `runcast-sidecar pipe`, Redis and `runcast-fanout` to one viewer over
//! HTTP, one word at a time: the next is written when the last has arrived. Prints percentiles.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a measuring program")]

use std::io::Write;
use std::time::{Duration, Instant};

use runcast_testkit::{Fanout, Redis, Sidecar};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let count: usize =
        std::env::args().nth(1).map_or(10_000, |count| count.parse().expect("a number of words"));
    let redis = Redis::start().await;
    let fanout = Fanout::start(&redis.url()).await;
    let mut sidecar = Sidecar::new(&redis.url(), "latency", "var-1").pipe();
    let mut agent = sidecar.child().stdin.take().unwrap();
    let mut viewer = fanout.viewer("latency", "channels=output");
    viewer.connect().await.unwrap();
    let mut times = Vec::with_capacity(count);
    // The first words find everything cold.
    for number in 0..count + 100 {
        let begun = Instant::now();
        agent.write_all(b"word ").unwrap();
        while viewer.history.messages <= number {
            viewer.next().await.unwrap().unwrap();
        }
        times.push(begun.elapsed());
    }
    let mut times = times.split_off(100);
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1000.0;
    let mean = times.iter().sum::<Duration>().as_secs_f64() * 1000.0 / count as f64;
    println!("{count} words, agent's write to viewer's socket, in ms:");
    println!(
        "mean {mean:.3}  p50 {:.3}  p90 {:.3}  p99 {:.3}  p99.9 {:.3}  max {:.3}",
        at(0.5),
        at(0.9),
        at(0.99),
        at(0.999),
        at(1.0)
    );
}
