//! Held until it is safe: what Redis loses again, the journal across kill -9, and no room.

mod support;

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use runcast_protocol::{Message, State};
use runcast_testkit::{Process, Redis, Sentinel, Sidecar, eventually, unix_post};
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

async fn wait_for(lanes: &Lanes, lane: &str, count: usize) -> Vec<Message> {
    eventually(&format!("{count} messages on {lane}"), Duration::from_secs(60), async || {
        lanes.messages(lane).await.filter(|messages| messages.len() >= count)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_redis_forgets_before_it_was_safe_is_sent_again() {
    let redis = Redis::start().await;
    let lanes = Lanes::of(&redis.url());
    let mut process = sidecar(&redis.url()).pipe();
    let mut stdin = process.child().stdin.take().expect("piped");
    stdin.write_all(b"one ").expect("taken");
    lanes.say("one ").await;
    redis.command(&["FLUSHALL"]).await.expect("flushed");
    // Nothing new is said: the loss is noticed all the same.
    lanes.say("one ").await;
    stdin.write_all(b"two").expect("taken");
    lanes.say("one two").await;
    drop(stdin);
    assert_eq!(process.wait(SOON).await.code(), Some(0));
    assert_eq!(lanes.states().await, [State::Running, State::Succeeded]);
    told(&process, "sending again from there").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_of_sentinels_loses_nothing() {
    let mut sentinel = Sentinel::start().await;
    let lanes = Lanes::of(&sentinel.url());
    let script = "for i in {1..1500}; do echo $i; sleep 0.004; done";
    let mut process = sidecar(&sentinel.url()).exec(&["bash", "-c", script]);
    eventually("some output", SOON, async || lanes.text().await.filter(|text| text.len() > 300)).await;
    let old = sentinel.primary_index().await.expect("a primary");
    sentinel.nodes[old].kill9();
    sentinel.until_promoted(old).await;
    assert_eq!(process.wait(Duration::from_secs(60)).await.code(), Some(0));
    let expected: String = (1..=1500).map(|number| format!("{number}\n")).collect();
    eventually("all of it", SOON, async || lanes.text().await.filter(|text| *text == expected)).await;
}

/// What became of numbered messages: how often each is in the lane.
fn seen(messages: &[Message]) -> BTreeMap<u64, u64> {
    let numbers: Vec<_> = messages.iter().map(number_in).collect();
    assert!(numbers.is_sorted(), "out of order");
    let mut seen = BTreeMap::new();
    numbers.into_iter().for_each(|number| *seen.entry(number).or_default() += 1);
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_loses_nothing_accepted_and_repeats_nothing() {
    let redis = Redis::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let (socket, sidecar) = (folder.path().join("agent.sock"), journaled(&redis.url(), &folder));
    let (mut accepted, mut number) = (Vec::new(), 0);
    for kill in 0..50_u64 {
        let process = std::sync::Mutex::new(sidecar.serve(&socket).await);
        // Not evenly spread, and from before the first claim on.
        let life = Duration::from_micros((kill * 7_919) % 31 * 1_000);
        let killer = async {
            tokio::time::sleep(life).await;
            process.lock().expect("no panic").kill9();
        };
        let agent = async {
            loop {
                number += 1;
                let line = lines("output", number..number + 1, 100);
                match unix_post(&socket, "/v1/messages", NDJSON, line).await {
                    Ok((200, _)) => accepted.push(number),
                    _ => return,
                }
            }
        };
        tokio::join!(killer, agent);
    }
    let mut process = sidecar.serve(&socket).await;
    let (status, _) = call(&socket, "POST", "/v1/finish", "", "").await;
    assert_eq!(status, 200);
    process.terminate();
    assert_eq!(process.wait(SOON).await.code(), Some(0));
    let seen = seen(&Lanes::of(&redis.url()).messages("output/a").await.expect("redis answers"));
    assert!(accepted.len() > 50, "only {} accepted", accepted.len());
    let lost: Vec<_> = accepted.iter().filter(|number| !seen.contains_key(number)).collect();
    let twice: Vec<_> = seen.iter().filter(|&(_, &times)| times > 1).collect();
    assert!(lost.is_empty() && twice.is_empty(), "lost {lost:?}, twice {twice:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_accepted_while_redis_was_away_survives_the_sidecar_too() {
    let mut redis = Redis::builder().appendonly().start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let (socket, sidecar) = (folder.path().join("agent.sock"), journaled(&redis.url(), &folder));
    let lanes = Lanes::of(&redis.url());
    let mut process = sidecar.serve(&socket).await;
    assert_eq!(call(&socket, "POST", "/v1/messages", NDJSON, &lines("output", 1..11, 10)).await.0, 200);
    redis.kill9();
    // More than is kept in memory.
    assert_eq!(call(&socket, "POST", "/v1/messages", NDJSON, &lines("output", 11..20_011, 200)).await.0, 200);
    let (_, status) = call(&socket, "GET", "/v1/status", "", "").await;
    assert!(status["journal"]["messages"].as_u64() >= Some(20_000), "{status}");
    process.kill9();
    let mut process = sidecar.serve(&socket).await;
    told(&process, "an earlier sidecar left messages").await;
    assert_eq!(
        call(&socket, "POST", "/v1/messages", NDJSON, &lines("output", 20_011..20_021, 10)).await.0,
        200
    );
    redis.restart().await;
    let messages = wait_for(&lanes, "output/a", 20_020).await;
    assert!(messages.iter().map(number_in).eq(1..=20_020));
    assert_eq!(call(&socket, "POST", "/v1/finish", "", "").await.0, 200);
    process.terminate();
    assert_eq!(process.wait(SOON).await.code(), Some(0));
    assert_eq!(lanes.states().await, [State::Running, State::Succeeded]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_sigterm_leaves_behind_is_told_and_sent_by_the_next_sidecar() {
    let mut redis = Redis::start().await;
    redis.kill9();
    let folder = tempfile::tempdir().expect("a folder");
    let sidecar = journaled(&redis.url(), &folder).set("RUNCAST__SHUTDOWN__DEADLINE", "500ms");
    let mut process = sidecar.exec(&["printf", "unheard "]);
    assert_eq!(process.wait(SOON).await.code(), Some(0));
    told(&process, "\"left\":2").await;
    redis.restart().await;
    let mut process = sidecar.set("RUNCAST__SHUTDOWN__DEADLINE", "20s").exec(&["printf", "heard"]);
    assert_eq!(process.wait(SOON).await.code(), Some(0));
    let lanes = Lanes::of(&redis.url());
    assert_eq!(lanes.text().await.as_deref(), Some("unheard heard"));
    assert_eq!(lanes.states().await, [State::Running, State::Running, State::Succeeded]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_status_in_the_journal_is_the_end_for_the_next_sidecar() {
    let mut redis = Redis::start().await;
    redis.kill9();
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("agent.sock");
    let sidecar = journaled(&redis.url(), &folder);
    // The status is begun when all else is in Redis: nothing else, here, but `running` never left.
    let mut process = sidecar.clone().set("RUNCAST__SHUTDOWN__DEADLINE", "300ms").exec(&["true"]);
    process.wait(SOON).await;
    let process = sidecar.serve(&socket).await;
    redis.restart().await;
    let lanes = Lanes::of(&redis.url());
    wait_for(&lanes, "status/a", 1).await;
    assert_eq!(call(&socket, "POST", "/v1/finish", "", "").await.0, 200);
    assert_eq!(lanes.states().await.last(), Some(&State::Succeeded));
    drop(process);
    let _process = sidecar.serve(&socket).await;
    eventually("it is finished", SOON, async || {
        (call(&socket, "POST", "/v1/output", "text/plain", "more").await.0 == 409).then_some(())
    })
    .await;
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
    let mut dropped = 0;
    for message in &messages {
        let metadata: Value = serde_json::from_str(message.metadata.as_str()).expect("JSON");
        if let Some(gap) = metadata.get("gap") {
            let (first, last) = (gap["first"].as_u64().expect("one"), gap["last"].as_u64().expect("one"));
            assert_eq!((gap["reason"].as_str(), last), (Some("overflow"), message.sequence.get()));
            let text = format!("… {} log records dropped …", last + 1 - first);
            assert!(message.content.as_str().contains(&text), "{}", message.content.as_str());
            dropped += last + 1 - first;
        } else {
            assert_eq!(number_in(message), message.sequence.get(), "nobody's number changes");
        }
    }
    assert!(dropped > 1_000 && messages.len() as u64 + dropped > 2_001, "{dropped} of {}", messages.len());
    assert!(messages.len() as u64 - 2 + dropped <= 2_001, "each is there or counted");
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
async fn two_sidecars_with_journals_do_not_mix() {
    let redis = Redis::start().await;
    let (mine, other) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let lanes = Lanes::of(&redis.url());
    let script = "printf first; while :; do sleep 0.01; printf .; done";
    let mut first = journaled(&redis.url(), &mine).exec(&["bash", "-c", script]);
    eventually("its output", SOON, async || lanes.text().await.filter(|text| text.contains("first."))).await;
    // The same journal: it cannot even start.
    let mut second = journaled(&redis.url(), &mine).exec(&["true"]);
    assert_eq!(second.wait(SOON).await.code(), Some(69));
    told(&second, "in use by another sidecar").await;
    assert!(first.is_running());
    // Another journal: it takes over.
    let mut third = journaled(&redis.url(), &other).exec(&["bash", "-c", "printf third; sleep 1000"]);
    assert_eq!(first.wait(SOON).await.code(), Some(69));
    eventually("its output", SOON, async || lanes.text().await.filter(|text| text.ends_with("third"))).await;
    assert!(third.is_running());
}
