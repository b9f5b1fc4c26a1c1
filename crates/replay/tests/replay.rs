//! Replays: a run as it happened, in its rhythm.

#![allow(clippy::unwrap_used, reason = "this is test code")]

mod support;

use std::time::{Duration, Instant};

use runcast_protocol::{Channel, Json, State};
use runcast_testkit::{Fanout, Pen, Redis, Replay, Viewer};

use support::tell;

const SOON: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_shows_what_live_showed() {
    let redis = Redis::start().await;
    tell(&redis.url(), "r", 200, 5).await;
    let (replay, fanout) = (Replay::start(&redis.url()).await, Fanout::start(&redis.url()).await);
    let mut live = fanout.viewer("r", "");
    assert_eq!(live.connect().await.unwrap(), 200);
    live.watch_to_end(SOON).await.unwrap();
    let mut again = Viewer::of_replay(replay.port(), "r", "speed=max");
    assert_eq!(again.connect().await.unwrap(), 200);
    // Cut off in the middle, it goes on where it was: the cursor is the same.
    for _ in 0..50 {
        again.next().await.unwrap();
    }
    assert_eq!(again.connect().await.unwrap(), 200);
    again.watch_to_end(SOON).await.unwrap();
    for variation in ["a", "b"] {
        assert_eq!(again.history.text(variation), live.history.text(variation));
    }
    assert_eq!(again.history.messages, live.history.messages);
    assert_eq!(again.history.end, live.history.end);
    assert_eq!(again.last_event_id(), live.last_event_id());
    assert_eq!(again.connect().await.unwrap(), 204);
    // And with the replay's cursor there is nothing more to see live.
    again.set_port(fanout.port());
    let mut nothing = fanout.viewer("r", &format!("after={}", again.last_event_id()));
    assert_eq!(nothing.connect().await.unwrap(), 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rhythm_is_kept_and_long_silences_are_capped() {
    let redis = Redis::start().await;
    let mut pen = Pen::new(&redis.url(), "r", "v");
    let mut times = Vec::new();
    for number in 0..6 {
        times.push(Instant::now());
        pen.write(Channel::Output, &[Json::string(&format!("{number}"))]).await;
        tokio::time::sleep(Duration::from_millis(if number == 2 { 700 } else { 40 })).await;
    }
    pen.state(State::Succeeded).await;
    let replay = Replay::start(&redis.url()).await;
    let play = async |query: &str| {
        let mut viewer = Viewer::of_replay(replay.port(), "r", query);
        assert_eq!(viewer.connect().await.unwrap(), 200);
        let begun = Instant::now();
        viewer.watch_to_end(SOON).await.unwrap();
        assert_eq!(viewer.history.text("v"), "012345");
        begun.elapsed()
    };
    let took = times[5] - times[0];
    assert!(play("speed=1").await >= took);
    assert!(play("speed=4").await >= took / 4);
    // Less than the silence alone: it cannot have been kept.
    assert!(play("speed=1&max_silence=10ms").await < Duration::from_millis(600));
    assert!(play("speed=max").await < Duration::from_millis(600));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_begins_at_any_time() {
    let redis = Redis::start().await;
    let mut pen = Pen::new(&redis.url(), "r", "v");
    pen.say("before").await;
    let between = jiff::Timestamp::now();
    pen.say("after").await;
    pen.state(State::Succeeded).await;
    let replay = Replay::start(&redis.url()).await;
    let mut viewer = Viewer::of_replay(replay.port(), "r", &format!("from={between}&channels=output"));
    assert_eq!(viewer.connect().await.unwrap(), 200);
    viewer.history.begin_at(&"v:1".parse().unwrap());
    viewer.watch_to_end(SOON).await.unwrap();
    assert_eq!(viewer.history.text("v"), "after");
}
