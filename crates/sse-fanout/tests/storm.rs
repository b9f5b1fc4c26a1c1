//! Hundreds of viewers who come back at once: few reads serve them all, and nobody else waits for them.

#![allow(clippy::unwrap_used, reason = "this is test code")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use runcast_protocol::{Channel, Json, State};
use runcast_testkit::{Fanout, Pen, Redis, Viewer};
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// For hundreds of viewers in a debug build, beside other tests.
const SOON: Duration = Duration::from_secs(180);

/// A run with so many messages of output, in batches of `batch`, that has ended unless `goes_on`; its text.
async fn run(redis: &Redis, name: &str, messages: usize, batch: usize) -> (Pen, Vec<String>) {
    let mut pen = Pen::new(&redis.url(), name, "var-1");
    pen.state(State::Running).await;
    let words: Vec<_> =
        (1..=messages).map(|number| format!("{number} – some words that an agent says\n")).collect();
    for words in words.chunks(batch) {
        let contents: Vec<_> = words.iter().map(|word| Json::string(word)).collect();
        pen.write(Channel::Output, &contents).await;
    }
    (pen, words)
}

/// Calls of a command so far.
async fn calls(redis: &Redis, command: &str) -> u64 {
    let stats = redis.info(&format!("cmdstat_{command}")).await;
    let calls = stats.strip_prefix("calls=").and_then(|rest| rest.split(',').next());
    calls.map_or(0, |calls| calls.parse().unwrap())
}

/// What is read is kept for a second: each of so many pages may be read once a second.
fn at_most(pages: u64, begun: Instant) -> u64 {
    pages * (2 + begun.elapsed().as_secs())
}

/// A viewer that comes back after so many messages of output, and nothing else, was seen.
fn back(fanout: &Fanout, run: &str, seen: usize, query: &str) -> Viewer {
    let cursor = format!("var-1:{seen}");
    let mut viewer = fanout.viewer(run, &format!("after={cursor}{query}"));
    viewer.history.begin_at(&cursor.parse().unwrap());
    viewer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn few_reads_serve_hundreds_of_viewers_who_come_back_at_once() {
    let redis = Redis::start().await;
    let (mut pen, words) = run(&redis, "r", 5000, 8).await;
    pen.state(State::Succeeded).await;
    let fanout = Fanout::start(&redis.url()).await;
    let before = calls(&redis, "xrange").await;
    let begun = Instant::now();
    let mut viewers = JoinSet::new();
    for number in 0..600 {
        // 50 cursors, all over the run.
        let seen = number % 50 * 97 + 11;
        let mut viewer = back(&fanout, "r", seen, "");
        let rest = words[seen..].concat();
        viewers.spawn(async move {
            viewer.watch_to_end(SOON).await.unwrap();
            assert!(viewer.history.text("var-1") == rest, "the text is not the same");
            assert!(viewer.history.gaps.is_empty());
            (viewer.history.messages, viewer.history.events)
        });
    }
    let told = viewers.join_all().await;
    let reads = calls(&redis, "xrange").await - before;
    let (messages, events) = told.iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    println!("{reads} reads, {messages} messages in {events} events, {:?}", begun.elapsed());
    // 50 cursors begin at 50 places, and 5000 messages are some ten pages.
    assert!(reads > 0 && reads <= at_most(60, begun), "{reads} reads");
    assert!(events * 20 < messages, "{messages} messages in {events} events");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shared_stream_is_read_once_whoever_many_lanes_it_has() {
    let redis = Redis::start().await;
    let mut pens: Vec<_> =
        (0..20).map(|number| Pen::new(&redis.url(), "r", &format!("var-{number}"))).collect();
    for round in 0..60 {
        for pen in &mut pens {
            pen.write(Channel::Metrics, &[Json::of(&serde_json::json!({"round": round}))]).await;
        }
    }
    for pen in &mut pens {
        pen.state(State::Succeeded).await;
    }
    let fanout = Fanout::start(&redis.url()).await;
    let (before, begun) = (calls(&redis, "xrange").await, Instant::now());
    let mut viewers = JoinSet::new();
    for _ in 0..200 {
        let mut viewer = fanout.viewer("r", "channels=metrics,status");
        viewers.spawn(async move {
            viewer.watch_to_end(SOON).await.unwrap();
            assert_eq!(viewer.history.messages, 20 * 60 + 20);
        });
    }
    viewers.join_all().await;
    let reads = calls(&redis, "xrange").await - before;
    println!("{reads} reads");
    // One after the other 1200 metrics are some ten pages.
    assert!(reads > 0 && reads <= at_most(15, begun), "{reads} reads");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_trimmed_is_told_to_all_with_few_reads() {
    let redis = Redis::start().await;
    let (mut pen, words) = run(&redis, "r", 2000, 1).await;
    redis.command(&["XTRIM", "run:{r}:output:var-1", "MINID", "1500"]).await.unwrap();
    pen.state(State::Succeeded).await;
    let fanout = Fanout::start(&redis.url()).await;
    let (before, begun) = (calls(&redis, "xrange").await, Instant::now());
    let mut viewers = JoinSet::new();
    for number in 0..500 {
        let seen = number % 25 * 40;
        let mut viewer = back(&fanout, "r", seen, "&channels=output");
        let rest = words[1499..].concat();
        viewers.spawn(async move {
            viewer.watch_to_end(SOON).await.unwrap();
            assert!(viewer.history.text("var-1") == rest, "the text is not the same");
            let gaps: Vec<_> =
                viewer.history.gaps.iter().map(|gap| (gap.first.get(), gap.last.get())).collect();
            assert_eq!(gaps, [(seen as u64 + 1, 1499)]);
        });
    }
    viewers.join_all().await;
    let reads = calls(&redis, "xrange").await - before;
    println!("{reads} reads");
    assert!(reads > 0 && reads <= at_most(60, begun), "{reads} reads");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_on_one_run_does_not_keep_another_runs_newcomer_waiting() {
    let redis = Redis::start().await;
    let (_hot, words) = run(&redis, "hot", 20_000, 8).await;
    let (mut pen, calm) = run(&redis, "calm", 200, 1).await;
    pen.state(State::Succeeded).await;
    let fanout = Fanout::start(&redis.url()).await;
    let (mut storm, at_it) = (JoinSet::new(), Arc::new(Notify::new()));
    for number in 0..500 {
        let seen = number % 100 * 10;
        let mut viewer = back(&fanout, "hot", seen, "");
        let (rest, at_it) = (words[seen..].concat(), at_it.clone());
        storm.spawn(async move {
            viewer.connect().await.unwrap();
            while viewer.history.position("output/var-1") < 20_000 {
                viewer.next().await.unwrap().unwrap();
                at_it.notify_one();
            }
            assert!(viewer.history.text("var-1") == rest, "the text is not the same");
            Instant::now()
        });
    }
    at_it.notified().await;
    // On a thread of its own: it is the server that is not to keep it waiting.
    let mut newcomer = fanout.viewer("calm", "");
    let newcomer = std::thread::spawn(move || {
        let begun = Instant::now();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(newcomer.watch_to_end(SOON)).unwrap();
        assert_eq!(newcomer.history.text("var-1"), calm.concat());
        (begun, Instant::now())
    });
    let (begun, had_all) = tokio::task::spawn_blocking(|| newcomer.join().unwrap()).await.unwrap();
    let ended = storm.join_all().await;
    let later = ended.iter().filter(|ended| **ended > had_all).count();
    println!("the newcomer took {:?}; {later} of the storm went on after that", had_all - begun);
    assert!(later > 250, "only {later} of the storm were still at it when the newcomer had all");
}
