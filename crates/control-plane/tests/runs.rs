//! Runs: created, watched, ended, lost, deleted, with a real Redis and the real service.

#![allow(clippy::unwrap_used, reason = "this is test code")]

mod support;

use std::time::Duration;

use runcast_bus::EntryId;
use runcast_protocol::grpc::control as proto;
use runcast_protocol::grpc::control::RunState;
use runcast_protocol::{Channel, State, Status};
use runcast_testkit::{Control, Redis, eventually};
use tonic::Code;

use support::{Agent, Client, PATIENCE, entries, pause};

const LONG: Duration = Duration::from_secs(60);

/// Leases that lapse fast.
const HASTY: [(&str, &str); 2] =
    [("RUNCAST__LEASE__GRACE", "500ms"), ("RUNCAST__RUNS__DISCOVER_INTERVAL", "100ms")];

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_created_watched_and_ends_with_its_variations() {
    let redis = Redis::start().await;
    let control = Control::start(&redis.url()).await;
    let mut client = Client::of(&control).await;
    // Watched before it exists.
    let watch = proto::WatchRunRequest { name: "runs/r".into() };
    let mut watched = client.runs.watch_run(watch).await.unwrap().into_inner();
    let request = proto::CreateRunRequest {
        run_id: "r".into(),
        variation_ids: vec!["a".into(), "b".into()],
        labels: [("team".to_owned(), "blue".to_owned())].into(),
        request_id: "once".into(),
    };
    let created = client.runs.create_run(request.clone()).await.unwrap().into_inner().run.unwrap();
    assert_eq!((created.state(), created.variation_count), (RunState::Pending, 2));
    assert_eq!((created.creator.as_str(), created.labels["team"].as_str()), ("127.0.0.1", "blue"));
    assert!(client.runs.create_run(request.clone()).await.is_ok(), "a repeat");
    let another = proto::CreateRunRequest { request_id: String::new(), ..request };
    assert_eq!(client.runs.create_run(another).await.unwrap_err().code(), Code::AlreadyExists);

    let mut agents = ["a", "b"].map(|id| Agent::new(&redis.url(), "r", id));
    assert_eq!(watched.message().await.unwrap().unwrap().run.unwrap().state(), RunState::Pending);
    for agent in &mut agents {
        agent.start(LONG).await;
    }
    assert_eq!(watched.message().await.unwrap().unwrap().run.unwrap().state(), RunState::Running);
    for (agent, state) in agents.iter_mut().zip([State::Succeeded, State::Failed]) {
        agent.say(&Status { exit_code: Some(3), ..Status::new(state) }).await;
    }
    let mut last = None;
    while let Some(change) = watched.message().await.unwrap() {
        let run = change.run.unwrap();
        last = Some(run.state());
        if run.state() == RunState::Failed {
            assert_eq!(run.variations[1].exit_code, Some(3));
            assert!(run.end_time.is_some());
        }
    }
    assert_eq!(last, Some(RunState::Failed), "the stream ends with the run");
    // Its end is told to those who watch all runs, and it is kept for less.
    eventually("the retention is shortened", PATIENCE, async || {
        let ttl = redis.command(&["TTL", "run:{r}:status"]).await.ok()?.text();
        (ttl.parse::<u64>().ok()? <= 6 * 3600).then_some(())
    })
    .await;
    let refused = client.commands.send_command(pause("r", LONG)).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_variation_without_a_sign_of_life_is_lost_once_and_may_come_back() {
    let redis = Redis::start().await;
    let replicas =
        [Control::start_with(&redis.url(), &HASTY).await, Control::start_with(&redis.url(), &HASTY).await];
    // Nobody told the control-plane of this run.
    let mut agents = ["dead", "alive"].map(|id| Agent::new(&redis.url(), "r", id));
    agents[0].start(Duration::from_millis(200)).await;
    agents[1].start(LONG).await;
    let mut client = Client::of(&replicas[0]).await;
    let variation = async |id: &str| {
        let run = client.clone().run("runs/r").await;
        run.variations.into_iter().find(|variation| variation.variation_id == id).unwrap()
    };
    eventually("it is lost", PATIENCE, async || {
        (variation("dead").await.state() == RunState::Lost).then_some(())
    })
    .await;
    assert_eq!(variation("alive").await.state(), RunState::Running);
    assert_eq!(variation("dead").await.reason, "its sidecar gave no sign of life");

    // It was only cut off, and goes on.
    agents[0].start(LONG).await;
    assert_eq!(variation("dead").await.state(), RunState::Running);
    for agent in &mut agents {
        agent.say(&Status::new(State::Succeeded)).await;
    }
    let over = eventually("the run is over", PATIENCE, async || {
        let run = client.clone().run("runs/r").await;
        run.end_time.is_some().then_some(run)
    });
    assert_eq!(over.await.state(), RunState::Succeeded);
    let messages = entries(&agents[0].bus, &agents[0].run, Channel::Status, &mut EntryId::default()).await;
    let lost = messages
        .iter()
        .filter(|message| message.content.read::<Status>().is_ok_and(|status| status.state == State::Lost));
    assert_eq!(lost.count(), 1, "once, although two replicas watch");
    // Ended runs can be deleted.
    let delete = proto::DeleteRunRequest { name: "runs/r".into(), force: false };
    client.runs.delete_run(delete.clone()).await.unwrap();
    assert_eq!(client.runs.delete_run(delete).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_redis_is_away_nobody_is_lost() {
    let mut redis = Redis::builder().appendonly().start().await;
    let control = Control::start_with(&redis.url(), &[("RUNCAST__LEASE__GRACE", "3s")]).await;
    let mut client = Client::of(&control).await;
    let mut agent = Agent::new(&redis.url(), "r", "v");
    agent.start(Duration::from_millis(300)).await;
    client.run("runs/r").await;
    redis.kill9();
    let refused = client.runs.get_run(proto::GetRunRequest { name: "runs/r".into() }).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    redis.restart().await;
    // Its lease has lapsed meanwhile; it could not have renewed it.
    let run = eventually("redis is back", PATIENCE, async || {
        let request = proto::GetRunRequest { name: "runs/r".into() };
        client.clone().runs.get_run(request).await.ok()?.into_inner().run
    })
    .await;
    assert_eq!(run.state(), RunState::Running);
    agent.renew(LONG).await;
    eventually("the watch goes on", PATIENCE, async || {
        (client.clone().run("runs/r").await.state() == RunState::Running).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_are_listed_in_pages_and_ended_by_hand() {
    let redis = Redis::start().await;
    let control = Control::start(&redis.url()).await;
    let mut client = Client::of(&control).await;
    for number in 0..7 {
        client.create(&format!("r{number}"), &["v"]).await;
    }
    let end = proto::EndRunRequest { name: "runs/r3".into(), reason: "enough".into() };
    let ended = client.runs.end_run(end).await.unwrap().into_inner().run.unwrap();
    assert_eq!((ended.state(), ended.variations[0].reason.as_str()), (RunState::Cancelled, "enough"));
    let (mut names, mut page_token) = (Vec::new(), String::new());
    loop {
        let states = vec![RunState::Pending.into()];
        let request = proto::ListRunsRequest { page_size: 2, page_token, states, ..Default::default() };
        let page = client.runs.list_runs(request).await.unwrap().into_inner();
        assert!(page.runs.len() <= 2);
        names.extend(page.runs.into_iter().map(|run| run.name));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(names, ["runs/r0", "runs/r1", "runs/r2", "runs/r4", "runs/r5", "runs/r6"]);
    let delete = proto::DeleteRunRequest { name: "runs/r0".into(), force: false };
    assert_eq!(client.runs.delete_run(delete).await.unwrap_err().code(), Code::FailedPrecondition);
    let delete = proto::DeleteRunRequest { name: "runs/r0".into(), force: true };
    client.runs.delete_run(delete).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_deleted_is_gone_for_all_replicas() {
    let redis = Redis::start().await;
    let (here, there) = (Control::start(&redis.url()).await, Control::start(&redis.url()).await);
    let (mut client, mut other) = (Client::of(&here).await, Client::of(&there).await);
    client.create("r", &["v"]).await;
    // The other follows it: somebody watches it there.
    let watch = proto::WatchRunRequest { name: "runs/r".into() };
    let mut watched = other.runs.watch_run(watch).await.unwrap().into_inner();
    assert!(watched.message().await.unwrap().is_some());
    let delete = proto::DeleteRunRequest { name: "runs/r".into(), force: true };
    client.runs.delete_run(delete).await.unwrap();
    let get = proto::GetRunRequest { name: "runs/r".into() };
    assert_eq!(other.runs.get_run(get).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(watched.message().await.unwrap_err().code(), Code::NotFound);
    // Its name is free again, and nothing of it is left.
    let created = other.runs.create_run(proto::CreateRunRequest {
        run_id: "r".into(),
        variation_ids: vec!["w".into()],
        ..Default::default()
    });
    let created = created.await.unwrap().into_inner().run.unwrap();
    let ids: Vec<_> = created.variations.iter().map(|variation| variation.variation_id.as_str()).collect();
    assert_eq!(ids, ["w"]);
    let again = eventually("the first sees the new one", PATIENCE, async || {
        let run = client.clone().run("runs/r").await;
        (run.variations.len() == 1).then_some(run)
    });
    assert_eq!(again.await, created);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_begun_anew_is_not_taken_for_the_old_one() {
    let redis = Redis::start().await;
    let (here, there) = (Control::start(&redis.url()).await, Control::start(&redis.url()).await);
    let (mut client, mut other) = (Client::of(&here).await, Client::of(&there).await);
    client.create("r", &["v"]).await;
    let watch = proto::WatchRunRequest { name: "runs/r".into() };
    let mut watched = other.runs.watch_run(watch).await.unwrap().into_inner();
    assert!(watched.message().await.unwrap().is_some());
    // All that the other could notice is that it is another one: it has as many messages as the old.
    let delete = proto::DeleteRunRequest { name: "runs/r".into(), force: true };
    client.runs.delete_run(delete).await.unwrap();
    let created = client.create("r", &["w"]).await;
    assert_eq!(other.run("runs/r").await, created);
}
