//! What was accepted survives the sidecar: real kill -9, a real journal.

mod support;

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use runcast_protocol::State;
use runcast_testkit::{Redis, Sidecar, eventually, unix_post};
use serde_json::json;
use tempfile::TempDir;

use crate::support::{Lanes, RUN, SOON, call, told};

/// A sidecar whose journal is in `folder`.
fn journaled(redis: &Redis, folder: &TempDir) -> Sidecar {
    Sidecar::new(&redis.url(), RUN, "a")
        .set("RUNCAST__JOURNAL__FOLDER", folder.path().join("journal").display())
}

async fn say(socket: &Path, text: String) -> bool {
    matches!(unix_post(socket, "/v1/output", "text/plain", text).await, Ok((200, _)))
}

async fn finish(socket: &Path) {
    eventually("the variation finishes", SOON, async || {
        let answer = unix_post(socket, "/v1/finish", "application/json", "{}").await.ok()?;
        (answer.0 == 200).then_some(())
    })
    .await;
}

fn words(text: &str) -> Vec<u32> {
    text.split_whitespace().map(|word| word.parse().expect("a number")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_killed_at_random_instants_loses_and_repeats_nothing_it_accepted() {
    let seed: u64 =
        std::env::var("SEED").map_or_else(|_| rand::random(), |seed| seed.parse().expect("a number"));
    println!("SEED={seed}");
    let mut rng = SmallRng::seed_from_u64(seed);
    let (redis, folder) = (Redis::start().await, tempfile::tempdir().expect("a folder"));
    let lanes = Lanes::of(&redis.url());
    let socket = folder.path().join("sidecar.sock");
    let sidecar = journaled(&redis, &folder);
    let (mut accepted, mut next) = (Vec::new(), 0);
    for _ in 0..40 {
        let mut process = sidecar.serve(&socket).await;
        let killer = tokio::spawn({
            let after = Duration::from_micros(rng.random_range(0..20_000));
            async move {
                // The very thing under test: a moment that nobody chose.
                tokio::time::sleep(after).await;
                process.kill9();
            }
        });
        while !killer.is_finished() {
            next += 1;
            if say(&socket, format!("{next} ")).await {
                accepted.push(next);
            }
        }
    }
    let _process = sidecar.serve(&socket).await;
    finish(&socket).await;
    let seen = words(&lanes.text().await.expect("the lane"));
    assert!(seen.is_sorted_by(|one, other| one < other), "something came twice, or out of order: {seen:?}");
    let lost: Vec<_> = accepted.iter().filter(|word| !seen.contains(word)).collect();
    assert!(lost.is_empty() && accepted.len() > 40, "lost of {}: {lost:?}", accepted.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_accepted_while_redis_was_away_survives_the_sidecar_too() {
    let (mut redis, folder) = (Redis::start().await, tempfile::tempdir().expect("a folder"));
    let (socket, sidecar) = (folder.path().join("sidecar.sock"), journaled(&redis, &folder));
    let mut process = sidecar.serve(&socket).await;
    assert!(say(&socket, "0 ".into()).await);
    redis.kill9();
    for number in 1..=100 {
        assert!(say(&socket, format!("{number} ")).await, "the agent does not wait for Redis");
    }
    // More than is kept in memory.
    let padding = " ".repeat(200);
    let line = |number| json!({"type": "output", "content": format!("{number}{padding}")}).to_string() + "\n";
    let body: String = (101..=20_000).map(line).collect();
    assert_eq!(call(&socket, "POST", "/v1/messages", "application/x-ndjson", &body).await.0, 200);
    let (_, status) = call(&socket, "GET", "/v1/status", "", "").await;
    assert!(status["journal"]["messages"].as_u64() >= Some(20_000), "{status}");
    process.kill9();

    let mut process = sidecar.serve(&socket).await;
    told(&process, "an earlier sidecar left messages").await;
    assert!(say(&socket, "20001 ".into()).await);
    // It comes back empty: also what it had had is sent again.
    redis.restart().await;
    finish(&socket).await;
    process.terminate();
    assert_eq!(process.wait(SOON).await.code(), Some(0));
    let lanes = Lanes::of(&redis.url());
    assert_eq!(words(&lanes.text().await.expect("the lane")), (0..=20_001).collect::<Vec<_>>());
    assert_eq!(lanes.states().await, [State::Running, State::Succeeded]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_sigterm_leaves_behind_is_told_and_sent_by_the_next_sidecar() {
    let mut redis = Redis::start().await;
    redis.kill9();
    let folder = tempfile::tempdir().expect("a folder");
    let sidecar = journaled(&redis, &folder).set("RUNCAST__SHUTDOWN__DEADLINE", "500ms");
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
    let sidecar = journaled(&redis, &folder);
    // The status is begun when all else is in Redis: nothing else, here, but `running` never left.
    let mut process = sidecar.clone().set("RUNCAST__SHUTDOWN__DEADLINE", "300ms").exec(&["true"]);
    process.wait(SOON).await;
    let process = sidecar.serve(&socket).await;
    redis.restart().await;
    let lanes = Lanes::of(&redis.url());
    eventually("it is running", SOON, async || lanes.messages("status/a").await?.first().map(drop)).await;
    finish(&socket).await;
    assert_eq!(lanes.states().await.last(), Some(&State::Succeeded));
    drop(process);
    let _process = sidecar.serve(&socket).await;
    eventually("it is finished", SOON, async || {
        (call(&socket, "POST", "/v1/output", "text/plain", "more").await.0 == 409).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_sidecars_with_journals_do_not_mix() {
    let redis = Redis::start().await;
    let (mine, other) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let lanes = Lanes::of(&redis.url());
    let script = "printf first; while :; do sleep 0.01; printf .; done";
    let mut first = journaled(&redis, &mine).exec(&["bash", "-c", script]);
    eventually("its output", SOON, async || lanes.text().await.filter(|text| text.contains("first."))).await;
    // The same journal: it cannot even start.
    let mut second = journaled(&redis, &mine).exec(&["true"]);
    assert_eq!(second.wait(SOON).await.code(), Some(69));
    told(&second, "in use by another sidecar").await;
    assert!(first.is_running());
    // Another journal: it takes over.
    let mut third = journaled(&redis, &other).exec(&["bash", "-c", "printf third; sleep 1000"]);
    assert_eq!(first.wait(SOON).await.code(), Some(69));
    eventually("its output", SOON, async || lanes.text().await.filter(|text| text.ends_with("third"))).await;
    assert!(third.is_running());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_sidecar_wrote_under_our_numbers_takes_nothing_of_ours_away() {
    let mut redis = Redis::builder().appendonly().start().await;
    let (lanes, folder) = (Lanes::of(&redis.url()), tempfile::tempdir().expect("a folder"));
    let socket = folder.path().join("sidecar.sock");
    let sidecar = journaled(&redis, &folder);
    let mut process = sidecar.serve(&socket).await;
    assert!(say(&socket, "1 ".into()).await);
    lanes.say("1 ").await;
    redis.kill9();
    for number in 2..=4 {
        assert!(say(&socket, format!("{number} ")).await, "writes do not wait for Redis");
    }
    process.kill9();
    redis.restart().await;

    let mut other = Sidecar::new(&redis.url(), RUN, "a").pipe();
    let mut stdin = other.child().stdin.take().expect("piped");
    stdin.write_all(b"77 ").expect("taken");
    lanes.say("1 77 ").await;
    stdin.write_all(b"78 ").expect("taken");
    lanes.say("1 77 78 ").await;
    other.kill9();

    let process = sidecar.serve(&socket).await;
    lanes.say("1 77 78 2 3 4 ").await;
    told(&process, "another writer used this lane's numbers").await;
    assert!(say(&socket, "5 ".into()).await);
    finish(&socket).await;
    assert_eq!(words(&lanes.text().await.expect("the lane")), [1, 77, 78, 2, 3, 4, 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_that_may_not_read_its_lane_goes_on_by_number_and_says_so() {
    let (redis, folder) = (Redis::start().await, tempfile::tempdir().expect("a folder"));
    let socket = folder.path().join("sidecar.sock");
    // Nor ask where the lanes stand: nothing is ever known to be safe.
    let rules = ["ACL", "SETUSER", "writer", "on", ">secret", "~*", "&*", "+@all", "-xrange", "-hgetall"];
    redis.command(&rules).await.expect("a user");
    let sidecar = Sidecar::new(&redis.url(), RUN, "a")
        .set("RUNCAST__REDIS__USERNAME", "writer")
        .set("RUNCAST__REDIS__PASSWORD", "secret")
        .set("RUNCAST__JOURNAL__FOLDER", folder.path().join("journal").display());
    let mut process = sidecar.serve(&socket).await;
    assert!(say(&socket, "1 ".into()).await);
    Lanes::of(&redis.url()).say("1 ").await;
    process.kill9();
    let process = sidecar.serve(&socket).await;
    told(&process, "redis does not let us read the lane").await;
    assert!(say(&socket, "2 ".into()).await);
    Lanes::of(&redis.url()).say("1 2 ").await;
}
