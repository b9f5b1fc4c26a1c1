//! The lease, and what is said when it had lapsed.

mod support;

use runcast_protocol::{State, Status};
use runcast_testkit::{Redis, Sidecar, eventually};
use serde_json::json;
use support::agent::Served;
use support::operator::Operator;
use support::{Lanes, RUN, SOON};

const KEY: &str = "run:{run-1}:lease:a";

async fn is_held(redis: &Redis) -> bool {
    redis.command(&["EXISTS", KEY]).await.expect("an answer").text() == "1"
}

async fn until_lapsed(redis: &Redis) {
    eventually("the lease lapses", SOON, async || (!is_held(redis).await).then_some(())).await;
}

fn quick(sidecar: Sidecar) -> Sidecar {
    sidecar.set("RUNCAST__LEASE__TTL", "400ms")
}

/// Waits until `status/a` says so much.
async fn until_said(lanes: &Lanes, states: &[State]) -> Vec<Status> {
    eventually(&format!("{states:?}"), SOON, async || {
        lanes.messages("status/a").await?;
        let said = lanes.statuses().await;
        said.iter().map(|status| status.state).eq(states.iter().copied()).then_some(said)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_held_before_the_variation_runs_and_until_its_end_is_told() {
    let redis = Redis::start().await;
    let lanes = Lanes::of(&redis.url());
    let mut process =
        quick(Sidecar::new(&redis.url(), RUN, "a")).exec(&["bash", "-c", "read -r; sleep 1.2; printf end"]);
    let running = async || lanes.messages("status/a").await.filter(|said| !said.is_empty());
    eventually("running", SOON, running).await;
    assert!(is_held(&redis).await);
    // Three times as long as it would live by itself.
    let until_end = async || {
        let ended = process.child().try_wait().expect("a status").is_some();
        let over = lanes.states().await.len() > 1;
        assert!(ended || over || is_held(&redis).await || lanes.states().await.len() > 1, "not renewed");
        ended.then_some(())
    };
    eventually("the agent ends", SOON, until_end).await;
    assert!(!is_held(&redis).await, "let go");
    assert_eq!(lanes.states().await, [State::Running, State::Succeeded]);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_lapses_when_the_sidecar_is_killed_and_its_successor_goes_on_where_it_was_declared_lost() {
    let redis = Redis::start().await;
    let (operator, lanes) = (Operator::of(&redis.url()), Lanes::of(&redis.url()));
    let mut served = Served::with(&redis, "a", quick).await;
    until_said(&lanes, &[State::Running]).await;
    // Before it was noticed: nothing is to be said.
    served.restart().await;
    served.get("/v1/config").await;
    served.process.kill9();
    until_lapsed(&redis).await;
    operator.declare(State::Lost).await;
    served.restart().await;
    let said = until_said(&lanes, &[State::Running, State::Running]).await;
    assert_eq!(said[1].reason.as_deref(), Some("its lease had lapsed; it goes on"));
    assert!(is_held(&redis).await);
    // And it can finish.
    assert_eq!(served.post("/v1/finish", json!({})).await.0, 200);
    until_said(&lanes, &[State::Running, State::Running, State::Succeeded]).await;
    // After its end it does not come back to life, whatever is said.
    operator.declare(State::Lost).await;
    served.restart().await;
    let over = async || served.get("/v1/status").await["finished"].is_object().then_some(());
    eventually("it knows that it is over", SOON, over).await;
    until_lapsed(&redis).await;
    assert_eq!(lanes.states().await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_that_stood_still_too_long_says_that_the_variation_goes_on() {
    let redis = Redis::start().await;
    let (operator, lanes) = (Operator::of(&redis.url()), Lanes::of(&redis.url()));
    let process = quick(Sidecar::new(&redis.url(), RUN, "a")).exec(&["sleep", "1000"]);
    until_said(&lanes, &[State::Running]).await;
    for (declared, said) in [(None, 1), (Some(State::Lost), 2), (Some(State::Cancelled), 3)] {
        process.signal(rustix::process::Signal::STOP);
        until_lapsed(&redis).await;
        if let Some(state) = declared {
            operator.declare(state).await;
        }
        process.signal(rustix::process::Signal::CONT);
        eventually("it is renewed", SOON, async || is_held(&redis).await.then_some(())).await;
        until_said(&lanes, &vec![State::Running; said]).await;
    }
    let said = lanes.statuses().await;
    let reasons: Vec<_> = said.iter().map(|status| status.reason.as_deref()).collect();
    assert_eq!(
        reasons,
        [None, Some("its lease had lapsed; it goes on"), Some("it was declared cancelled, and goes on")]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_away_disturbs_nobody_and_the_lease_is_taken_when_it_is_back() {
    let mut redis = Redis::start().await;
    let lanes = Lanes::of(&redis.url());
    redis.kill9();
    let process =
        quick(Sidecar::new(&redis.url(), RUN, "a")).exec(&["bash", "-c", "printf said; sleep 1000"]);
    support::told(&process, "append failed").await;
    redis.restart().await;
    lanes.say("said").await;
    eventually("it is taken", SOON, async || is_held(&redis).await.then_some(())).await;
    assert_eq!(lanes.states().await, [State::Running]);
    redis.kill9();
    redis.restart().await;
    eventually("it is taken again", SOON, async || is_held(&redis).await.then_some(())).await;
    drop(process);
    until_lapsed(&redis).await;
}
