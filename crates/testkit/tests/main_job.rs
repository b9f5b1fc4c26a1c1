//! The whole path: real agents, real sidecars, a real Redis, a real fan-out, viewers that come and go.

#![allow(clippy::unwrap_used, reason = "this is test code")]

use std::path::Path;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use runcast_testkit::{Fanout, Process, Redis, Sidecar, Viewer, binary, unix_post};

const DEADLINE: Duration = Duration::from_secs(120);
const TEXTS: [&str; 3] = ["relay", "tides", "atlas"];

fn text(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/texts");
    std::fs::read_to_string(folder.join(format!("{name}.md"))).unwrap()
}

/// Three sample agents of one run, each under its own sidecar.
fn start_agents(redis: &Redis, run: &str) -> Vec<Process> {
    let agent = binary("sample-agent");
    let agents = TEXTS.iter().enumerate().map(|(number, name)| {
        let sidecar = Sidecar::new(&redis.url(), run, name).set("RUNCAST__RUN__VARIATIONS", 3);
        let (agent, seed) = (agent.to_str().unwrap(), number.to_string());
        sidecar.exec(&[
            agent,
            "--text",
            name,
            "--seed",
            &seed,
            "--tokens-per-second",
            "250",
            "--think",
            "100ms",
        ])
    });
    agents.collect()
}

/// Drops the connection at random moments, `drops` times, resumes each time, and watches to the end.
async fn restless(mut viewer: Viewer, drops: usize, seed: u64) -> Viewer {
    let mut rng = SmallRng::seed_from_u64(seed);
    for _ in 0..drops {
        viewer.reconnect(DEADLINE).await.unwrap();
        for _ in 0..rng.random_range(0..40) {
            if viewer.history.end.is_some() || !matches!(viewer.next().await, Ok(Some(_))) {
                break;
            }
        }
        viewer.drop_connection();
    }
    viewer.watch_to_end(DEADLINE).await.unwrap();
    viewer
}

fn assert_saw_everything(viewer: &Viewer) {
    for name in TEXTS {
        assert_eq!(viewer.history.text(name), text(name), "{name}");
    }
    assert!(viewer.history.gaps.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_viewers_who_drop_and_resume_fifty_times_see_every_character_once() {
    let redis = Redis::start().await;
    let fanout = Fanout::start(&redis.url()).await;
    let viewers: Vec<_> =
        (0..10).map(|number| tokio::spawn(restless(fanout.viewer("run-1", ""), 50, number))).collect();
    let _agents = start_agents(&redis, "run-1");
    for viewer in viewers {
        assert_saw_everything(&viewer.await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fanout_that_is_killed_and_restarted_loses_and_repeats_nothing() {
    let redis = Redis::start().await;
    let mut fanout = Fanout::start(&redis.url()).await;
    let viewers: Vec<_> =
        (0..5).map(|number| tokio::spawn(restless(fanout.viewer("run-1", ""), 3, number))).collect();
    let mut agents = start_agents(&redis, "run-1");
    let mut kills = 0;
    while agents.iter_mut().any(Process::is_running) {
        fanout.restart().await;
        kills += 1;
    }
    assert!(kills > 5, "{kills} kills");
    for viewer in viewers {
        assert_saw_everything(&viewer.await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sidecar_that_is_killed_and_restarted_goes_on_where_redis_stands() {
    let redis = Redis::start().await;
    let fanout = Fanout::start(&redis.url()).await;
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("sidecar.sock");
    let sidecar = Sidecar::new(&redis.url(), "run-1", "var-1");
    let mut viewer = fanout.viewer("run-1", "");
    viewer.connect().await.unwrap();
    let mut said = String::new();
    for life in 0..5 {
        let mut process = sidecar.serve(&socket).await;
        for word in 0..20 {
            let text = format!("{life}.{word} ");
            let (status, body) = unix_post(&socket, "/v1/output", "text/plain", text.clone()).await.unwrap();
            assert_eq!(status, 200, "{body:?}");
            said.push_str(&text);
        }
        // What Redis had accepted survives; a viewer that has it is proof.
        while viewer.history.text("var-1") != said {
            viewer.next().await.unwrap().unwrap();
        }
        process.kill9();
    }
    let _process = sidecar.serve(&socket).await;
    let (status, _) =
        unix_post(&socket, "/v1/finish", "application/json", r#"{"state":"succeeded"}"#).await.unwrap();
    assert_eq!(status, 200);
    viewer.watch_to_end(DEADLINE).await.unwrap();
    assert_eq!(viewer.history.text("var-1"), said);
    assert_eq!(viewer.history.position("output/var-1"), 100);
}
