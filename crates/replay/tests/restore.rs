//! What only the archive has reaches the viewers of the fan-out: the real replay, the real fan-out and a
//! real Redis that has lost it.

#![allow(clippy::unwrap_used, reason = "this is test code")]

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use runcast_bus::{Bus, RedisConfig};
use runcast_protocol::{Batch, Cursor, Json, Lane, Sequence, State};
use runcast_testkit::{Fanout, Pen, Redis, Replay, Reply, Viewer, eventually, http_get};

const SOON: Duration = Duration::from_secs(60);

/// Lane → lines.
type Lines = BTreeMap<Lane, Vec<(Sequence, String)>>;

async fn replay_of(redis: &Redis, folder: &tempfile::TempDir) -> Replay {
    let url = format!("file://{}", folder.path().display());
    let settings = [("RUNCAST__ARCHIVE__URL", &*url), ("RUNCAST__ARCHIVE__INTERVAL", "100ms")];
    Replay::start_with(&redis.url(), &settings).await
}

async fn until_archived(replay: &Replay, run: &str) {
    eventually("the run is archived as a whole", SOON, async || {
        let (status, _, body) = http_get(&replay.url(&format!("/v1/archive/{run}")), &[]).await.ok()?;
        let archived: serde_json::Value = serde_json::from_slice(&body).ok()?;
        (status == 200 && archived["complete"] == true).then_some(())
    })
    .await;
}

/// Empties Redis, and waits until replay has noticed.
async fn forget(redis: &Redis) {
    redis.command(&["FLUSHALL"]).await.unwrap();
    eventually("replay says that it is there", SOON, async || {
        let alive = redis.command(&["EXISTS", "replay:alive"]).await.ok()?;
        matches!(alive, Reply::Number(1)).then_some(())
    })
    .await;
}

/// Watches to the end, which must come without a gap.
async fn watch(viewer: &mut Viewer) -> Lines {
    let mut lines = Lines::new();
    assert_eq!(viewer.connect().await.unwrap(), 200);
    while let Some(event) = viewer.next().await.unwrap() {
        if !matches!(event.event.as_str(), "end" | "gap" | "start" | "snapshot") {
            let batch = Batch::parse(event.data.clone().into_bytes().into()).unwrap();
            lines.entry(batch.lane.clone()).or_default().push((batch.first(), event.data));
        }
    }
    assert!(viewer.history.gaps.is_empty(), "{:?}", viewer.history.gaps);
    assert!(viewer.history.end.is_some(), "the end is told");
    lines
}

#[tokio::test]
async fn a_run_that_redis_has_forgotten_is_seen_as_ever() {
    let (redis, folder) = (Redis::start().await, tempfile::tempdir().unwrap());
    let replay = replay_of(&redis, &folder).await;
    support::tell(&redis.url(), "run-1", 2000, 1).await;
    // More than a few pages.
    let mut pen = Pen::new(&redis.url(), "run-1", "c");
    pen.state(State::Running).await;
    for first in (0..5000).step_by(50) {
        let text = |number: u64| Json::string(&format!("{number} {}\n", "é\"x".repeat(250)));
        pen.write(runcast_protocol::Channel::Output, &(first..first + 50).map(text).collect::<Vec<_>>())
            .await;
    }
    pen.state(State::Succeeded).await;
    let (live, texts, last) = {
        let fanout = Fanout::start(&redis.url()).await;
        let mut viewer = fanout.viewer("run-1", "merge=false");
        let live = watch(&mut viewer).await;
        let texts = ["a", "b", "c"].map(|variation| viewer.history.text(variation).to_owned());
        (live, texts, viewer.last_event_id().to_owned())
    };
    until_archived(&replay, "run-1").await;
    forget(&redis).await;

    let fanout = Fanout::start(&redis.url()).await;
    let begun = std::time::Instant::now();
    let mut viewer = fanout.viewer("run-1", "merge=false");
    assert_eq!(watch(&mut viewer).await, live, "byte for byte");
    let seconds = begun.elapsed().as_secs_f64();
    let megabytes = texts.iter().map(String::len).sum::<usize>() as f64 / 1e6;
    eprintln!("restored {megabytes:.1} MB of text in {seconds:.2} s");
    assert_eq!(viewer.last_event_id(), last);
    assert_eq!(viewer.connect().await.unwrap(), 204, "nothing is left to come");

    let cursor: Cursor = "a:1234.0.1,c:2501".parse().unwrap();
    let mut late = fanout.viewer("run-1", &format!("after={cursor}&merge=false"));
    late.history.begin_at(&cursor);
    let mut rest = live.clone();
    rest.retain(|lane, lines| {
        lines.retain(|(sequence, _)| *sequence > cursor.position(lane));
        !lines.is_empty()
    });
    assert_eq!(watch(&mut late).await, rest);

    let mut snapshot = fanout.viewer("run-1", "from=snapshot");
    watch(&mut snapshot).await;
    for (variation, text) in ["a", "b", "c"].into_iter().zip(&texts) {
        assert_eq!(snapshot.history.text(variation), text);
    }
    let mut nothing = fanout.viewer("run-1", &format!("after={last}"));
    assert_eq!(nothing.connect().await.unwrap(), 204);
    let (status, _, body) = http_get(&fanout.url("/v1/runs/run-1"), &[]).await.unwrap();
    let info: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((status, info["state"].as_str()), (200, Some("succeeded")));
}

#[tokio::test]
async fn a_stream_that_was_evicted_comes_from_the_archive() {
    let (redis, folder) = (Redis::start().await, tempfile::tempdir().unwrap());
    let replay = replay_of(&redis, &folder).await;
    support::tell(&redis.url(), "run-1", 500, 2).await;
    until_archived(&replay, "run-1").await;
    redis.command(&["DEL", "run:{run-1}:output:a"]).await.unwrap();
    redis.command(&["XTRIM", "run:{run-1}:output:b", "MINID", "300"]).await.unwrap();
    let fanout = Fanout::start(&redis.url()).await;
    let mut viewer = fanout.viewer("run-1", "");
    watch(&mut viewer).await;
    assert_eq!((viewer.history.position("output/a"), viewer.history.position("output/b")), (500, 500));
}

#[tokio::test]
async fn nonsense_is_counted_and_requests_are_answered_all_the_same() {
    let redis = Redis::start().await;
    let replay = Replay::start(&redis.url()).await;
    let bus = Bus::connect(&RedisConfig::new(redis.url())).unwrap().asking_past(SOON);
    eventually("replay listens", SOON, async || {
        let alive = redis.command(&["EXISTS", "replay:alive"]).await.ok()?;
        matches!(alive, Reply::Number(1)).then_some(())
    })
    .await;
    let long = format!(r#"{{"run_id":"r","more":"{}"}}"#, "x".repeat(100_000));
    for bad in ["", "{}", "\u{0}", r#"{"run_id":"a}:lanes"}"#, r#"{"run_id":"r","lane":"output/v"}"#, &long] {
        redis.command(&["PUBLISH", "replay:requests", bad]).await.unwrap();
    }
    let run = "never".parse().unwrap();
    assert!(bus.past_run(&run).answer().await.unwrap().is_none());
    let lane = "output/a".parse().unwrap();
    assert!(bus.past_page(&run, &lane, Sequence::MAX).answer().await.unwrap().is_none());
    for key in ["run:{never}:past", "run:{never}:past:output/a:9007199254740991"] {
        let answer = redis.command(&["GET", key]).await.unwrap();
        assert!(matches!(answer, Reply::Text(text) if text.is_empty()), "{key} says that there is nothing");
        let Reply::Number(ttl) = redis.command(&["PTTL", key]).await.unwrap() else { panic!("a TTL") };
        assert!(ttl > 0 && ttl <= 5000, "not for long: {ttl}");
    }
    let (_, _, metrics) = http_get(&replay.admin_url("/metrics"), &[]).await.unwrap();
    let metrics = String::from_utf8_lossy(&metrics).into_owned();
    let counted = metrics.lines().find(|line| line.starts_with("runcast_replay_restore_malformed_total"));
    assert!(counted.is_some_and(|line| line.ends_with(" 6")), "{metrics}");
}
