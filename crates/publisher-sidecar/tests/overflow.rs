//! No more room, in memory and on disk: each kind of traffic has its own answer, and none is silent.

mod support;

use std::io::Write;
use std::time::Duration;

use runcast_protocol::Message;
use runcast_testkit::{Process, Redis, Sidecar, eventually};
use serde_json::{Value, json};
use support::{Lanes, RUN, SOON, call, told};
use tempfile::TempDir;

const NDJSON: &str = "application/x-ndjson";

fn sidecar(url: &str) -> Sidecar {
    Sidecar::new(url, RUN, "a")
}

/// A sidecar whose journal is in `folder`.
fn journaled(url: &str, folder: &TempDir) -> Sidecar {
    sidecar(url).set("RUNCAST__JOURNAL__FOLDER", folder.path().join("journal").display())
}

/// Messages of one type that are told apart by number, one a line.
fn lines(kind: &str, numbers: std::ops::Range<u64>, padding: usize) -> String {
    let padding = "x".repeat(padding);
    let line = |number| json!({"type": kind, "content": format!("{number} {padding}")}).to_string() + "\n";
    numbers.map(line).collect()
}

fn number_in(message: &Message) -> u64 {
    let text = message.content.to_text().expect("text");
    text.split(' ').next().expect("a word").parse().expect("a number")
}

async fn overflowing(
    redis: &mut Redis,
    kind: &str,
    setting: (&str, &str),
    folder: Option<&TempDir>,
) -> Process {
    let socket_folder = tempfile::tempdir().expect("a folder");
    let socket = socket_folder.path().join("agent.sock");
    let sidecar = match folder {
        Some(folder) => journaled(&redis.url(), folder),
        None => sidecar(&redis.url()),
    };
    let process = sidecar.set(setting.0, setting.1).serve(&socket).await;
    let first = call(&socket, "POST", "/v1/messages", NDJSON, &lines(kind, 1..2, 10)).await;
    assert_eq!(first.0, 200);
    redis.kill9();
    // Far more than there is room for; the agent is not held back.
    let body = lines(kind, 2..2_002, 1_000);
    let rest = call(&socket, "POST", "/v1/messages", NDJSON, &body);
    let (status, answer) = tokio::time::timeout(SOON, rest).await.expect("nobody waits");
    assert_eq!((status, &answer["accepted"]), (200, &json!(2_000)));
    redis.restart().await;
    process
}

/// The last message of the lane, once it is `number`.
async fn until_last(lanes: &Lanes, lane: &str, number: u64) -> Vec<Message> {
    eventually(&format!("number {number} on {lane}"), Duration::from_secs(60), async || {
        let messages = lanes.messages_and_holes(lane).await?;
        messages.last().is_some_and(|last| last.sequence.get() == number).then_some(messages)
    })
    .await
}

async fn logs_drop_the_oldest(setting: (&str, &str), folder: Option<&TempDir>) {
    let mut redis = Redis::builder().appendonly().start().await;
    let _process = overflowing(&mut redis, "log", setting, folder).await;
    let messages = until_last(&Lanes::of(&redis.url()), "logs/a", 2_001).await;
    let gaps = gaps(&messages);
    assert!(gaps.iter().all(|(_, reason)| reason == "overflow"), "{gaps:?}");
    let dropped: u64 = gaps.iter().map(|(count, _)| count).sum();
    assert!(dropped > 1_000 && messages.len() as u64 + dropped > 2_001, "{dropped} of {}", messages.len());
    assert!(messages.len() as u64 - 2 + dropped <= 2_001, "each is there or counted");
}

/// How many log records each marker stands for, and why; nobody's number changes.
fn gaps(messages: &[Message]) -> Vec<(u64, String)> {
    let mut gaps = Vec::new();
    for message in messages {
        let metadata: Value = serde_json::from_str(message.metadata.as_str()).expect("JSON");
        if let Some(gap) = metadata.get("gap") {
            let (first, last) = (gap["first"].as_u64().expect("one"), gap["last"].as_u64().expect("one"));
            let reason = gap["reason"].as_str().expect("a text");
            assert_eq!(last, message.sequence.get());
            let verb = if reason == "overflow" { "dropped" } else { "missing" };
            let text = format!("… {} log records {verb} …", last + 1 - first);
            assert!(message.content.as_str().contains(&text), "{}", message.content.as_str());
            gaps.push((last + 1 - first, reason.to_owned()));
        } else {
            assert_eq!(number_in(message), message.sequence.get(), "nobody's number changes");
        }
    }
    gaps
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_that_a_sidecar_dropped_before_it_was_killed_are_counted_by_the_next() {
    let mut redis = Redis::builder().appendonly().start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("agent.sock");
    let sidecar = journaled(&redis.url(), &folder).set("RUNCAST__JOURNAL__MAX_BYTES", "1MiB");
    let mut process = sidecar.serve(&socket).await;
    assert_eq!(call(&socket, "POST", "/v1/messages", NDJSON, &lines("log", 1..2, 10)).await.0, 200);
    until_last(&Lanes::of(&redis.url()), "logs/a", 1).await;
    redis.kill9();
    let body = lines("log", 2..2_002, 1_000);
    assert_eq!(call(&socket, "POST", "/v1/messages", NDJSON, &body).await.0, 200);
    process.kill9();
    let _process = sidecar.serve(&socket).await;
    redis.restart().await;
    let messages = until_last(&Lanes::of(&redis.url()), "logs/a", 2_001).await;
    let [(missing, reason)] = &gaps(&messages)[..] else { panic!("one marker: {:?}", gaps(&messages)) };
    assert_eq!((reason.as_str(), messages[0].sequence.get()), ("lost", 1));
    assert_eq!(messages.len() as u64 - 1 + missing, 2_001, "each is there or counted");
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_without_room_in_memory_drop_the_oldest_and_say_so() {
    logs_drop_the_oldest(("RUNCAST__QUEUE__MAX_BYTES", "200KiB"), None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_without_room_on_disk_drop_the_oldest_and_say_so() {
    let folder = tempfile::tempdir().expect("a folder");
    logs_drop_the_oldest(("RUNCAST__JOURNAL__MAX_BYTES", "1MiB"), Some(&folder)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_without_room_keep_the_latest() {
    let folder = tempfile::tempdir().expect("a folder");
    for (setting, folder) in [
        (("RUNCAST__QUEUE__MAX_BYTES", "100KiB"), None),
        (("RUNCAST__JOURNAL__MAX_BYTES", "1MiB"), Some(&folder)),
    ] {
        let mut redis = Redis::builder().appendonly().start().await;
        let _process = overflowing(&mut redis, "metric", setting, folder).await;
        let messages = until_last(&Lanes::of(&redis.url()), "metrics/a", 2_001).await;
        assert!(messages.len() < 200, "{} kept", messages.len());
        assert!(messages.iter().all(|message| number_in(message) == message.sequence.get()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn output_without_room_on_disk_holds_the_agent_back_and_loses_nothing() {
    let mut redis = Redis::start().await;
    redis.kill9();
    let folder = tempfile::tempdir().expect("a folder");
    let sidecar = journaled(&redis.url(), &folder).set("RUNCAST__JOURNAL__MAX_BYTES", "1MiB");
    let mut process = sidecar.pipe();
    let mut stdin = process.child().stdin.take().expect("piped");
    let text = "0123456789abcdef\n".repeat(150_000);
    let said = text.clone();
    let agent = tokio::task::spawn_blocking(move || stdin.write_all(said.as_bytes()).expect("taken"));
    told(&process, "no room for what the agent says").await;
    assert!(!agent.is_finished());
    redis.restart().await;
    agent.await.expect("no panic");
    assert_eq!(process.wait(SOON).await.code(), Some(0));
    assert!(Lanes::of(&redis.url()).text().await.expect("redis answers") == text, "not all of it");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_more_than_its_quota_is_held_back_and_loses_nothing() {
    let redis = Redis::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("agent.sock");
    // Bursts of 1,000 messages and 2,000 KiB.
    let sidecar = sidecar(&redis.url())
        .set("RUNCAST__QUOTA__MESSAGES_PER_SECOND", 100)
        .set("RUNCAST__QUOTA__BYTES_PER_SECOND", "200KiB");
    let process = sidecar.serve(&socket).await;
    let begun = std::time::Instant::now();
    for kind in ["output", "log", "metric"] {
        let body = match kind {
            "metric" => {
                (0..50).map(|n| json!({"type": kind, "content": {"n": n}}).to_string() + "\n").collect()
            }
            _ => lines(kind, 1..501, 10),
        };
        let (status, answer) = call(&socket, "POST", "/v1/messages", NDJSON, &body).await;
        assert_eq!(status, 200, "{answer}");
    }
    // 1,050 messages, of which a thousand come at once.
    assert!(begun.elapsed() > Duration::from_millis(450), "{:?}", begun.elapsed());
    told(&process, "more than its quota").await;
    // 200 KiB more than the bytes' burst.
    let (begun, body) = (std::time::Instant::now(), lines("output", 501..505, 550 << 10));
    let (status, answer) = call(&socket, "POST", "/v1/messages", NDJSON, &body).await;
    assert_eq!(status, 200, "{answer}");
    assert!(begun.elapsed() > Duration::from_millis(900), "{:?}", begun.elapsed());
    let output = until_last(&Lanes::of(&redis.url()), "output/a", 504).await;
    assert!(output.iter().map(number_in).eq(1..505));
}
