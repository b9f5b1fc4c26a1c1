//! What can never be stored: where it goes, and that its lane goes on.

mod support;

use std::io::Write;

use runcast_bus::{Bus, DeadLetter, EntryId, RedisConfig};
use runcast_protocol::{Message, RunId, Sequence};
use runcast_testkit::{Redis, Sidecar, eventually};
use serde_json::{Value, json};
use support::{Lanes, RUN, SOON, call, told};

const NDJSON: &str = "application/x-ndjson";

fn sidecar(redis: &Redis) -> Sidecar {
    Sidecar::new(&redis.url(), RUN, "a")
}

async fn dead_letters(redis: &Redis) -> (Bus, RunId, Vec<(EntryId, DeadLetter)>) {
    let (bus, run) = (Bus::connect(&RedisConfig::new(redis.url())).expect("an address"), RUN.parse());
    let run = run.expect("an id");
    let letters = bus.dead_letters(&run, EntryId::default(), 100).await.expect("redis answers");
    (bus, run, letters)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_a_dead_letter_in_redis_and_can_be_requeued() {
    let redis = Redis::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    // The logs' share of so small a journal is 192 KiB; JSON writes each of these bytes as six.
    let sidecar = sidecar(&redis)
        .set("RUNCAST__JOURNAL__FOLDER", folder.path().join("journal").display())
        .set("RUNCAST__JOURNAL__MAX_BYTES", "1MiB")
        .set("RUNCAST__LOGS__HOLD", "20s");
    let script = "{ echo before; head -c 50000 /dev/zero; echo; echo after; } >&2; echo fine";
    let mut process = sidecar.exec(&["sh", "-c", script]);
    assert_eq!(process.wait(SOON).await.code(), Some(0));

    let lanes = Lanes::of(&redis.url());
    let texts = async || -> Vec<Value> {
        lanes.logs().await.into_iter().map(|(content, _)| content["message"].clone()).collect()
    };
    assert_eq!(texts().await, ["before", "after"], "the lane goes on, without a hole");
    assert_eq!(lanes.text().await.as_deref(), Some("fine\n"));
    let (bus, run, letters) = dead_letters(&redis).await;
    let [(id, letter)] = &letters[..] else { panic!("{letters:?}") };
    assert_eq!((letter.lane.to_string().as_str(), letter.sequence), ("logs/a", None));
    assert!(letter.reason.contains("too large") && letter.reason.contains("message.max_bytes"), "{letter:?}");
    let message = Message::parse(&letter.original).expect("whole");
    let content: Value = message.content.read().expect("JSON");
    assert_eq!(content["message"].as_str().map(str::len), Some(50_000));

    // Redis itself never minded.
    let number = bus.requeue_dead_letter(&run, *id).await.expect("redis answers");
    assert_eq!(number.map(Sequence::get), Some(3));
    assert_eq!(texts().await[2], content["message"]);
    assert_eq!(dead_letters(&redis).await.2, []);
}

/// A sidecar that offers Redis a message that is too large for it, between others; what it said.
async fn refused(sidecar: Sidecar, redis: &Redis, folder: &std::path::Path) -> runcast_testkit::Process {
    let socket = folder.join("agent.sock");
    let sidecar = sidecar
        .set("RUNCAST__MESSAGE__MAX_BYTES", "4MiB")
        .set("RUNCAST__BATCH__COMPRESS_ABOVE", "1GiB")
        .set("RUNCAST__BATCH__MAX_BYTES", "4MiB");
    let process = sidecar.serve(&socket).await;
    let line = |text: String| json!({"type": "output", "content": text}).to_string() + "\n";
    let texts = ["1".into(), "2".into(), "3".repeat(1_500_000), "4".into(), "5".into()];
    let body: String = texts.into_iter().map(line).collect();
    assert_eq!(call(&socket, "POST", "/v1/messages", NDJSON, &body).await.0, 200);
    let lanes = Lanes::of(&redis.url());
    let messages = eventually("the last one", SOON, async || {
        lanes.messages_and_holes("output/a").await.filter(|messages| messages.len() == 4)
    })
    .await;
    let seen = messages.iter().map(|message| (message.sequence.get(), message.content.to_text()));
    let expected = [1, 2, 4, 5].map(|number: u64| (number, Some(number.to_string())));
    assert!(seen.eq(expected), "its number is left out, and no other");
    eventually("nothing is held any more", SOON, async || {
        let (_, status) = call(&socket, "GET", "/v1/status", "", "").await;
        (status["lanes"]["output/a"]["bytes"] == 0).then_some(())
    })
    .await;
    process
}

#[tokio::test(flavor = "multi_thread")]
async fn what_redis_refuses_as_a_dead_letter_too_is_in_the_file() {
    let redis = Redis::builder().set("proto-max-bulk-len", "1mb").start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let journal = folder.path().join("journal");
    let _process =
        refused(sidecar(&redis).set("RUNCAST__JOURNAL__FOLDER", journal.display()), &redis, folder.path())
            .await;
    let text = std::fs::read_to_string(journal.join("dead-letters.ndjson")).expect("it is there");
    let letter: Value = serde_json::from_str(text.trim_end()).expect("one line of JSON");
    assert_eq!((&letter["lane"], &letter["sequence"]), (&json!("output/a"), &json!(3)));
    assert!(letter["reason"].as_str().is_some_and(|reason| reason.contains("bulk length")), "{letter}");
    assert!(letter["original"]["content"].as_str().is_some_and(|text| text.starts_with("333")));
    assert_eq!(dead_letters(&redis).await.2, [], "it has the same bytes there");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_journal_what_redis_refuses_is_told_as_lost() {
    let redis = Redis::builder().set("proto-max-bulk-len", "1mb").start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let process = refused(sidecar(&redis), &redis, folder.path()).await;
    told(&process, "without journal.folder there is no dead-letter file").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_that_is_broken_itself_makes_no_dead_letters() {
    let redis = Redis::start().await;
    let lanes = Lanes::of(&redis.url());
    let mut process = sidecar(&redis).pipe();
    let mut stdin = process.child().stdin.take().expect("piped");
    stdin.write_all(b"one ").expect("taken");
    lanes.say("one ").await;
    // Bookkeeping that nobody can read: the script fails whatever is appended.
    let bookkeeping = format!("run:{{{RUN}}}:lanes");
    redis.command(&["HSET", &bookkeeping, "output/a", "what?"]).await.expect("set");
    stdin.write_all(b"two").expect("taken");
    told(&process, "redis refuses the append; trying again").await;
    redis.command(&["HSET", &bookkeeping, "output/a", "1 1"]).await.expect("set");
    lanes.say("one two").await;
    assert_eq!(dead_letters(&redis).await.2, []);
}
