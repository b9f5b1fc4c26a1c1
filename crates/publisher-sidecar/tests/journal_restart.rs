//! What was accepted survives the sidecar and a failover of Redis: real kill -9, a real journal.

mod support;

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use runcast_testkit::{Process, Redis, Sentinel, Sidecar, eventually, unix_post};

use crate::support::{Lanes, RUN, SOON, told};

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
    let sidecar = Sidecar::new(&redis.url(), RUN, "a")
        .set("RUNCAST__JOURNAL__FOLDER", folder.path().join("journal").display());
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
async fn what_was_accepted_while_redis_was_away_is_there_after_a_restart() {
    let (mut redis, folder) = (Redis::start().await, tempfile::tempdir().expect("a folder"));
    let socket = folder.path().join("sidecar.sock");
    let sidecar = Sidecar::new(&redis.url(), RUN, "a")
        .set("RUNCAST__JOURNAL__FOLDER", folder.path().join("journal").display());
    let mut process: Process = sidecar.serve(&socket).await;
    assert!(say(&socket, "0 ".into()).await);
    redis.kill9();
    for number in 1..=200 {
        assert!(say(&socket, format!("{number} ")).await, "writes do not wait for Redis");
    }
    process.kill9();
    let _process = sidecar.serve(&socket).await;
    // It comes back empty: also what it had had is sent again.
    redis.restart().await;
    let lanes = Lanes::of(&redis.url());
    finish(&socket).await;
    assert_eq!(words(&lanes.text().await.expect("the lane")), (0..=200).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_lost_in_a_failover_is_sent_again() {
    let (mut sentinel, folder) = (Sentinel::start().await, tempfile::tempdir().expect("a folder"));
    let socket = folder.path().join("sidecar.sock");
    let _process = Sidecar::new(&sentinel.url(), RUN, "a").serve(&socket).await;
    let old = sentinel.primary_index().await.expect("a primary");
    // What the replicas do not get before it dies, the new primary never had.
    for index in (0..3).filter(|index| *index != old) {
        sentinel.nodes[index].freeze();
    }
    for number in 0..50 {
        assert!(say(&socket, format!("{number} ")).await);
    }
    sentinel.nodes[old].kill9();
    for index in (0..3).filter(|index| *index != old) {
        sentinel.nodes[index].thaw();
    }
    sentinel.until_promoted(old).await;
    for number in 50..100 {
        assert!(say(&socket, format!("{number} ")).await);
    }
    finish(&socket).await;
    let lanes = Lanes::of(&sentinel.url());
    assert_eq!(words(&lanes.text().await.expect("the lane")), (0..100).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_sidecar_wrote_under_our_numbers_takes_nothing_of_ours_away() {
    let mut redis = Redis::builder().appendonly().start().await;
    let (lanes, folder) = (Lanes::of(&redis.url()), tempfile::tempdir().expect("a folder"));
    let socket = folder.path().join("sidecar.sock");
    let sidecar = Sidecar::new(&redis.url(), RUN, "a")
        .set("RUNCAST__JOURNAL__FOLDER", folder.path().join("journal").display());
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
