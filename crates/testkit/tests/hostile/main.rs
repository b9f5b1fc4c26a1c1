//! Clients that mean harm: each is refused or cut off, whoever is honest beside them misses nothing, and no service ends
//! or grows. `RUNCAST_ROUNDS=50` for a longer siege; docs/security.md has figures.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "this is test code")]

mod attacks;
mod attempt;
mod latency;

use std::time::Duration;

use attacks::{on_grpc, on_http, on_http2, on_replay, on_the_fanout, on_the_sidecar, on_websockets};
use attempt::{HALF_A_CALL, HALVES, Outcomes, Target, all_at_once, all_refused, half_a_request, resident};
use runcast_protocol::State;
use runcast_testkit::{Control, Fanout, Pen, Redis, Replay, Sidecar, http_get};
use tokio::task::JoinSet;

const DEADLINE: Duration = Duration::from_secs(120);
/// What a service may grow by: buffers that the allocator keeps. A leak of what was sent would be far more.
const GROWTH: u64 = 48 << 20;
/// A head that is not whole by then is cut off.
const HEADER_TIMEOUT: (&str, &str) = ("RUNCAST__HTTP__HEADER_TIMEOUT", "2s");

fn rounds() -> usize {
    std::env::var("RUNCAST_ROUNDS").map_or(2, |rounds| rounds.parse().unwrap())
}

/// Attacks in rounds; how many attempts, after which the process has not grown.
async fn besiege(who: &str, pid: u32, target: &Target, attacks: impl Fn() -> Vec<attacks::Attack>) {
    let mut seen = Outcomes::new();
    // Once, so that what is allocated once for all does not count.
    all_at_once(target, attacks(), &mut seen).await;
    let before = resident(pid);
    for _ in 0..rounds() {
        all_at_once(target, attacks(), &mut seen).await;
    }
    let (after, attempts) = (resident(pid), all_refused(&seen));
    println!("{who}: {attempts} attempts; RSS {before} → {after}");
    assert!(after < before + GROWTH, "{who} grew from {before} to {after}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_means_harm_is_refused_and_viewers_do_not_notice() {
    let redis = Redis::start().await;
    let mut fanout = Fanout::start_with(&redis.url(), &[HEADER_TIMEOUT]).await;
    let (pid, port) = (fanout.process().pid(), fanout.port());
    let mut pen = Pen::new(&redis.url(), "r", "v");
    pen.state(State::Running).await;
    let mut honest = fanout.viewer("r", "channels=output,status");
    honest.reconnect(DEADLINE).await.unwrap();
    let honest = tokio::spawn(async move {
        honest.watch_to_end(DEADLINE * 5).await.unwrap();
        honest
    });
    let at_peace =
        latency::of(&redis, port, async { tokio::time::sleep(Duration::from_secs(2)).await }).await;
    // Half a request each, for as long as they are let.
    let mut halves = JoinSet::new();
    for half in HALVES.into_iter().cycle().take(200) {
        halves.spawn(half_a_request(port, half));
    }
    let (mut said, target) = (String::new(), Target::Port(port));
    let siege = async {
        let http = || [on_http("/v1/runs/{id}/events"), on_http2()].concat();
        besiege("fan-out, HTTP", pid, &target, http).await;
        pen.say("in between ").await;
        said.push_str("in between ");
        besiege("fan-out", pid, &target, || [on_the_fanout(), on_websockets()].concat()).await;
    };
    let besieged = Box::pin(latency::of(&redis, port, siege)).await;
    println!("a viewer's latency: {at_peace} at peace, {besieged} besieged");
    let cut = halves.join_all().await.into_iter().filter(|cut| *cut).count();
    assert_eq!(cut, 200, "slow heads are cut off");
    pen.state(State::Succeeded).await;
    assert_eq!(honest.await.unwrap().history.text("v"), said);
    let (status, _, _) = http_get(&fanout.url("/v1/runs/r"), &[]).await.unwrap();
    assert_eq!(status, 200, "the service answers");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_means_harm_is_refused_by_history() {
    let redis = Redis::start().await;
    let folder = tempfile::tempdir().unwrap();
    let url = format!("file://{}", folder.path().join("archive").display());
    let settings = [HEADER_TIMEOUT, ("RUNCAST__ARCHIVE__URL", &url)];
    let mut replay = Replay::start_with(&redis.url(), &settings).await;
    let mut pen = Pen::new(&redis.url(), "r", "v");
    pen.state(State::Running).await;
    pen.say("hello").await;
    let target = Target::Port(replay.port());
    let attacks = || [on_http("/v1/runs/{id}/messages"), on_replay()].concat();
    besiege("replay", replay.process().pid(), &target, attacks).await;
    let (status, _, text) = http_get(&replay.url("/v1/runs/r/messages?format=text"), &[]).await.unwrap();
    assert_eq!((status, &text[..]), (200, &b"hello"[..]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_means_harm_is_refused_by_the_control_plane() {
    let redis = Redis::start().await;
    let settings = [("RUNCAST__GRPC__KEEPALIVE", "1s"), ("RUNCAST__GRPC__REQUEST_TIMEOUT", "2s")];
    let mut control = Control::start_with(&redis.url(), &settings).await;
    let port = control.url().rsplit(':').next().unwrap().trim_end_matches('/').parse().unwrap();
    let mut halves = JoinSet::new();
    for half in HALVES.into_iter().chain([HALF_A_CALL]).cycle().take(200) {
        halves.spawn(half_a_request(port, half));
    }
    let target = Target::Port(port);
    let attacks = || [on_http("/runcast.control.v1.RunService/{id}"), on_grpc(), on_http2()].concat();
    besiege("control-plane", control.process().pid(), &target, attacks).await;
    assert!(halves.join_all().await.into_iter().all(|cut| cut), "who is slow is cut off");
    let (status, ..) = http_get(&control.admin_url("/readyz"), &[]).await.unwrap();
    assert_eq!(status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_means_harm_is_refused_by_the_sidecar() {
    let redis = Redis::start().await;
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("agent.sock");
    let process = Sidecar::new(&redis.url(), "r", "v").serve(&socket).await;
    let attacks = || [on_http("/v1/{id}/x"), on_the_sidecar()].concat();
    besiege("sidecar", process.pid(), &Target::Socket(socket), attacks).await;
}
