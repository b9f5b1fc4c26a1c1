//! What history costs: `make history`.
//!
//! A run of a million messages is written, archived, read back in pages and as a stream, shown from a
//! snapshot, and, after Redis was emptied, shown from its beginning. Then a run that was said at random
//! moments is replayed at its own speed. Prints a line for each.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a measuring program")]

use std::path::Path;
use std::time::{Duration, Instant};

use clap::Parser;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use runcast_protocol::{Channel, Json, Message, State};
use runcast_testkit::{Fanout, Pen, Redis, Replay, Viewer, eventually, http_get};

/// Measures what history costs.
#[derive(Parser)]
struct Options {
    /// Messages of the long run.
    #[arg(long, default_value_t = 1_000_000)]
    messages: u64,
    /// Messages of the run that is replayed at its own speed.
    #[arg(long, default_value_t = 500)]
    rhythm: u64,
}

const LONG: Duration = Duration::from_secs(600);
const VARIATIONS: u64 = 4;
const BATCH: u64 = 64;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let options = Options::parse();
    let (redis, folder) = (Redis::start().await, tempfile::tempdir().unwrap());
    let archive = format!("file://{}", folder.path().display());
    let settings = [("RUNCAST__ARCHIVE__URL", archive.as_str()), ("RUNCAST__ARCHIVE__INTERVAL", "200ms")];
    let mut replay = Replay::start_with(&redis.url(), &settings).await;
    let fanout = Fanout::start(&redis.url()).await;

    // A shorter run first: memory should not be more with the longer one.
    for (run, count) in [("short", options.messages / 10), ("long", options.messages)] {
        println!("== {run}: {count} messages");
        tell(&redis.url(), run, count).await;
        archived(&replay, run, folder.path()).await;
        println!("memory of runcast-replay, at most so far: {} MiB", peak(&mut replay) / 1024);
    }
    let raw = read(&replay, "long").await;
    println!("archived: {:.1} % of that", 100.0 * size(&folder.path().join("runs/long")) as f64 / raw);
    watch(&fanout, "long", "channels=output,status&from=snapshot", "from a snapshot").await;
    redis.command(&["FLUSHALL"]).await.unwrap();
    println!("== redis emptied");
    watch(&fanout, "long", "channels=output,status", "all of it").await;
    watch(&fanout, "long", "channels=output,status&after=v0:200000", "with an old cursor").await;
    watch(&fanout, "long", "channels=output,status&from=snapshot", "from a snapshot").await;
    println!("memory of runcast-replay, at most: {} MiB", peak(&mut replay) / 1024);
    rhythm(&redis, &replay, options.rhythm).await;
}

/// Writes a run of so many messages, of about 250 bytes each.
async fn tell(redis: &str, run: &str, count: u64) {
    let mut rng = SmallRng::seed_from_u64(1);
    let begun = Instant::now();
    let mut pens: Vec<_> =
        (0..VARIATIONS).map(|number| Pen::new(redis, run, &format!("v{number}"))).collect();
    for pen in &mut pens {
        pen.state(State::Running).await;
    }
    for round in 0..count / VARIATIONS / BATCH {
        for pen in &mut pens {
            let words = (0..BATCH).map(|number| {
                // As compressible as words are.
                let words: Vec<String> =
                    (0..10).map(|_| format!("word{:03}", rng.random_range(0..1000))).collect();
                Json::string(&format!("{} {number} {}\n", round, words.join(" ")))
            });
            let words: Vec<_> = words.collect();
            pen.write(Channel::Output, &words).await;
        }
    }
    for pen in &mut pens {
        pen.state(State::Succeeded).await;
    }
    println!("written in {:.1} s", begun.elapsed().as_secs_f64());
}

async fn archived(replay: &Replay, run: &str, folder: &Path) {
    let begun = Instant::now();
    let path = replay.url(&format!("/v1/archive/{run}"));
    eventually("the run is archived", LONG, async || {
        let (status, _, body) = http_get(&path, &[]).await.ok()?;
        let archived: serde_json::Value = serde_json::from_slice(&body).ok()?;
        (status == 200 && archived["complete"] == true).then_some(())
    })
    .await;
    let size = size(&folder.join("runs").join(run)) as f64 / 1e6;
    println!("archived {:.1} s after its end, {size:.1} MB", begun.elapsed().as_secs_f64());
}

/// Reads a run as a stream and in pages; its size in bytes.
async fn read(replay: &Replay, run: &str) -> f64 {
    let url = |query: &str| replay.url(&format!("/v1/runs/{run}/messages?{query}"));
    let begun = Instant::now();
    let (_, _, all) = http_get(&url("limit=all"), &[]).await.unwrap();
    let lines = all.iter().filter(|byte| **byte == b'\n').count();
    report("export as NDJSON", begun.elapsed(), lines, all.len());
    let (begun, mut at, mut read, mut bytes) = (Instant::now(), String::new(), 0, 0);
    loop {
        let (_, headers, page) = http_get(&url(&format!("limit=10000{at}")), &[]).await.unwrap();
        read += page.iter().filter(|byte| **byte == b'\n').count();
        bytes += page.len();
        let Some(next) = headers.get("runcast-next") else { break };
        at = format!("&after={}", next.to_str().unwrap());
    }
    assert_eq!((read, bytes), (lines, all.len()));
    report("pages of 10,000", begun.elapsed(), read, bytes);
    let begun = Instant::now();
    let (_, _, text) = http_get(&url("variations=v0&format=text"), &[]).await.unwrap();
    report("one variation's words", begun.elapsed(), lines / VARIATIONS as usize, text.len());
    let begun = Instant::now();
    let path = replay.url(&format!("/v1/runs/{run}/export?format=parquet"));
    let (_, _, parquet) = http_get(&path, &[]).await.unwrap();
    report("export as Parquet", begun.elapsed(), lines, parquet.len());
    all.len() as f64
}

fn report(what: &str, took: Duration, messages: usize, bytes: usize) {
    let seconds = took.as_secs_f64();
    println!(
        "{what}: {messages} messages, {:.1} MB in {seconds:.2} s: {:.1} MB/s, {:.0} messages/s",
        bytes as f64 / 1e6,
        bytes as f64 / 1e6 / seconds,
        messages as f64 / seconds
    );
}

/// Watches a run to its end; nothing may be missing.
async fn watch(fanout: &Fanout, run: &str, query: &str, what: &str) {
    let mut viewer = fanout.viewer(run, query);
    let begun = Instant::now();
    assert_eq!(viewer.connect().await.unwrap(), 200);
    if let Some((_, cursor)) = query.split_once("after=") {
        viewer.history.begin_at(&cursor.parse().unwrap());
    }
    // The first event of a snapshot says only where the stream begins.
    for _ in 0..2 {
        viewer.next().await.unwrap().unwrap();
    }
    let first = begun.elapsed();
    viewer.watch_to_end(LONG).await.unwrap();
    assert!(viewer.history.gaps.is_empty(), "{:?}", viewer.history.gaps);
    let bytes: usize = (0..VARIATIONS).map(|number| viewer.history.text(&format!("v{number}")).len()).sum();
    println!(
        "viewer, {what}: first event after {:.1} ms, end after {:.2} s, {} messages, {:.1} MB of text, 0 gaps",
        first.as_secs_f64() * 1e3,
        begun.elapsed().as_secs_f64(),
        viewer.history.messages,
        bytes as f64 / 1e6
    );
}

/// Says something at random moments, replays it at its own speed, and compares the silences.
async fn rhythm(redis: &Redis, replay: &Replay, count: u64) {
    let mut rng = SmallRng::seed_from_u64(2);
    let mut pen = Pen::new(&redis.url(), "rhythm", "v");
    for _ in 0..count {
        pen.say("word ").await;
        tokio::time::sleep(Duration::from_micros(rng.random_range(0..60_000))).await;
    }
    pen.state(State::Succeeded).await;
    let mut viewer = Viewer::of_replay(replay.port(), "rhythm", "channels=output&speed=1");
    assert_eq!(viewer.connect().await.unwrap(), 200);
    let mut seen = Vec::new();
    while let Some(event) = viewer.next().await.unwrap() {
        if event.event == "output" {
            seen.push((Instant::now(), Message::parse(event.data.as_bytes()).unwrap().timestamp));
        }
    }
    let mut errors: Vec<f64> = seen
        .windows(2)
        .map(|pair| {
            let shown = (pair[1].0 - pair[0].0).as_secs_f64();
            (shown - pair[1].1.duration_since(pair[0].1).as_secs_f64()).abs() * 1e3
        })
        .collect();
    errors.sort_by(f64::total_cmp);
    let at = |share: f64| errors[((errors.len() - 1) as f64 * share) as usize];
    println!(
        "replay at 1x of {} messages, error of the time between two: p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms",
        seen.len(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
}

/// Largest resident size of the service so far, in KiB.
fn peak(replay: &mut Replay) -> u64 {
    let status = format!("/proc/{}/status", replay.process().child().id());
    let status = std::fs::read_to_string(status).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn size(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| {
            let meta = entry.metadata().unwrap();
            if meta.is_dir() { size(&entry.path()) } else { meta.len() }
        })
        .sum()
}
