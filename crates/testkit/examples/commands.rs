//! How long commands take from the call until they are done, with the real services: pausing and resuming
//! an agent that `exec` started, idle and with other agents writing.
//!
//! `cargo run --release -p runcast-testkit --example commands`; the second figure is the caller's, the
//! first the time between the steps `issued` and `applied`.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark")]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use runcast_protocol::grpc::control as proto;
use runcast_protocol::grpc::control::CommandState;
use runcast_protocol::grpc::control::command::Action;
use runcast_protocol::grpc::control::command_service_client::CommandServiceClient;
use runcast_testkit::{Control, Redis, Sidecar, eventually, unix_post};
use tonic::transport::Channel as Connection;

const COMMANDS: usize = 400;
const WRITERS: usize = 5;
const RATE: u64 = 5000;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let redis = Redis::start().await;
    let unlimited = [("RUNCAST__LIMITS__CALLS_PER_SECOND", "1000000"), ("RUNCAST__LIMITS__BURST", "1000000")];
    let control = Control::start_with(&redis.url(), &unlimited).await;
    let agent = "while :; do echo tick; sleep 0.05; done";
    let _sidecar = Sidecar::new(&redis.url(), "r", "v").exec(&["sh", "-c", agent]);
    let mut client =
        CommandServiceClient::new(Connection::from_shared(control.url()).unwrap().connect_lazy());
    eventually("the agent is there", Duration::from_secs(20), async || {
        let lanes = redis.command(&["HKEYS", "run:{r}:lanes"]).await.ok()?.text();
        lanes.contains("output/v").then_some(())
    })
    .await;
    measure("idle", &mut client).await;

    let folder = tempfile::tempdir().unwrap();
    let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let (mut sidecars, mut writers) = (Vec::new(), Vec::new());
    for writer in 0..WRITERS {
        let socket = folder.path().join(format!("{writer}.sock"));
        sidecars.push(Sidecar::new(&redis.url(), "load", &format!("w{writer}")).serve(&socket).await);
        writers.push(tokio::spawn(write(socket, RATE / WRITERS as u64, stop.clone(), written.clone())));
    }
    let begun = Instant::now();
    measure("beside other agents", &mut client).await;
    let rate = written.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64();
    println!("they wrote {rate:.0} messages a second");
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
}

async fn measure(what: &str, client: &mut CommandServiceClient<Connection>) {
    let (mut calls, mut lives) = (Vec::new(), Vec::new());
    for number in 0..COMMANDS {
        let action = match number % 2 {
            0 => Action::Pause(proto::PauseAction {}),
            _ => Action::Resume(proto::ResumeAction {}),
        };
        let request = proto::SendCommandRequest {
            parent: "runs/r".into(),
            command: Some(proto::Command { action: Some(action), ..Default::default() }),
            ..Default::default()
        };
        let asked = Instant::now();
        let answer = client.execute_command(proto::ExecuteCommandRequest { request: Some(request) }).await;
        calls.push(asked.elapsed());
        let command = answer.unwrap().into_inner().command.unwrap();
        assert_eq!(command.state(), CommandState::Applied, "{command:?}");
        let steps = &command.outcomes[0].steps;
        let at = |time: &prost_types::Timestamp| Duration::new(time.seconds as u64, time.nanos as u32);
        let (first, last) = (steps.first().unwrap(), steps.last().unwrap());
        if number % 2 == 0 {
            lives.push(at(&last.time.unwrap()) - at(&first.time.unwrap()));
        }
    }
    for (name, times) in [("pause, issued → applied", &mut lives), ("pause and resume, the call", &mut calls)]
    {
        times.sort_unstable();
        let at = |share: usize| times[(times.len() - 1) * share / 1000];
        println!("{what}: {name}: p50 {:.2?}, p99 {:.2?}, max {:.2?}", at(500), at(990), at(1000));
    }
}

async fn write(socket: PathBuf, rate: u64, stop: Arc<AtomicBool>, written: Arc<AtomicU64>) {
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    let line =
        serde_json::json!({"type": "output", "content": "a line such as agents write them, not too long\n"});
    let batch = serde_json::Value::Array(vec![line; (rate / 50) as usize]).to_string();
    while !stop.load(Ordering::Relaxed) {
        tick.tick().await;
        let (status, _) =
            unix_post(&socket, "/v1/messages", "application/json", batch.clone()).await.unwrap();
        assert_eq!(status, 200);
        written.fetch_add(rate / 50, Ordering::Relaxed);
    }
}
