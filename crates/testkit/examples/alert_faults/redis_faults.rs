//! What can befall Redis.

use std::time::Duration;

use runcast_protocol::grpc::control as proto;
use runcast_protocol::grpc::control::run_service_client::RunServiceClient;
use runcast_testkit::{Control, Fanout, Redis, Replay, Sentinel, Viewer};
use rustix::process::Signal;
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::Endpoint;

use crate::prometheus::Prometheus;
use crate::{port, sidecar, sidecar_of, talk};

const OFTEN: Duration = Duration::from_millis(20);

fn runs(control: &Control) -> RunServiceClient<tonic::transport::Channel> {
    RunServiceClient::new(Endpoint::from_shared(control.url()).unwrap().connect_lazy())
}

fn new(run: String) -> proto::CreateRunRequest {
    proto::CreateRunRequest { run_id: run, variation_ids: vec!["v".into()], ..Default::default() }
}

/// A viewer that reads on and on.
fn reading(mut viewer: Viewer) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        loop {
            if viewer.connect().await.is_ok() {
                while let Ok(Some(_)) = viewer.next().await {}
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }))
}

/// So many characters that cannot be compressed much.
fn noise(length: usize) -> String {
    (0..length / 16).map(|_| format!("{:016x}", rand::random::<u64>())).collect()
}

async fn keys(redis: &Redis, pattern: &str) -> Vec<String> {
    let keys = redis.command(&["KEYS", pattern]).await.unwrap();
    keys.items().iter().map(runcast_testkit::Reply::text).collect()
}

pub(crate) async fn redis_freezes(alerts: &[&str]) -> Vec<String> {
    let redis = Redis::start().await;
    let folder = tempfile::tempdir().unwrap();
    let fanout = Fanout::start(&redis.url()).await;
    let (sidecar, admin) = sidecar(&redis.url(), Some(folder.path()));
    let _agent = talk(&sidecar, "a line\n".into(), OFTEN);
    let prometheus = Prometheus::watch(&[port(&fanout.admin_url("")), admin], alerts).await;
    redis.freeze();
    let silent = prometheus.until("Redis is stopped (SIGSTOP)", alerts).await;
    redis.thaw();
    silent
}

pub(crate) async fn redis_freezes_and_agents_talk_on(alerts: &[&str]) -> Vec<String> {
    let redis = Redis::start().await;
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (much, first) = sidecar(&redis.url(), Some(one.path()));
    let _much = talk(&much, noise(60_000) + "\n", Duration::from_millis(5));
    let (small, second) = sidecar_of("w", &redis.url(), Some(two.path()));
    let small = small.set("RUNCAST__JOURNAL__MAX_BYTES", "1MiB");
    let record =
        serde_json::json!({"timestamp": "2026-01-10T10:30:00Z", "level": "info", "message": noise(2000)});
    let _small = talk(&small, format!("{record}\n"), Duration::from_millis(100));
    let prometheus = Prometheus::watch(&[first, second], alerts).await;
    redis.freeze();
    let silent =
        prometheus.until("Redis is stopped; agents talk much, and log into a small journal", alerts).await;
    redis.thaw();
    silent
}

pub(crate) async fn redis_stutters(alerts: &[&str]) -> Vec<String> {
    let redis = Redis::start().await;
    let fanout = Fanout::start(&redis.url()).await;
    let control = Control::start(&redis.url()).await;
    let (sidecar, _) = sidecar(&redis.url(), None);
    let _agent = talk(&sidecar, "a line\n".into(), OFTEN);
    let _viewer = reading(fanout.viewer("r", ""));
    let mut client = runs(&control);
    let _calls = AbortOnDropHandle::new(tokio::spawn(async move {
        for number in 0.. {
            let _ = client.create_run(new(format!("c-{number}"))).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }));
    let ports = [port(&fanout.admin_url("")), port(&control.admin_url(""))];
    let prometheus = Prometheus::watch(&ports, alerts).await;
    tokio::select! {
        silent = prometheus.until("Redis stands still for 1.7 s, and goes on for 0.3 s", alerts) => silent,
        () = async {
            loop {
                redis.freeze();
                tokio::time::sleep(Duration::from_millis(1700)).await;
                redis.thaw();
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
        } => unreachable!("it never ends"),
    }
}

pub(crate) async fn redis_is_full(alerts: &[&str]) -> Vec<String> {
    let redis = Redis::builder().set("maxmemory", "8mb").set("maxmemory-policy", "allkeys-lru").start().await;
    let control = Control::start_with(&redis.url(), &[("RUNCAST__SERVERS__INTERVAL", "250ms")]).await;
    let prometheus = Prometheus::watch(&[port(&control.admin_url(""))], alerts).await;
    let value = "x".repeat(10_000);
    for number in 0..2000 {
        redis.command(&["SET", &format!("key-{number}"), &value]).await.unwrap();
    }
    prometheus.until("20 MB are written into a Redis of 8 MB (allkeys-lru)", alerts).await
}

pub(crate) async fn redis_forgets(alerts: &[&str]) -> Vec<String> {
    let redis = Redis::start().await;
    let (sidecar, admin) = sidecar(&redis.url(), None);
    let _agent = talk(&sidecar, "a line\n".into(), OFTEN);
    let prometheus = Prometheus::watch(&[admin], alerts).await;
    redis.command(&["FLUSHALL"]).await.unwrap();
    prometheus.until("what Redis had confirmed is gone (FLUSHALL)", alerts).await
}

pub(crate) async fn a_replica_dies(alerts: &[&str]) -> Vec<String> {
    let mut sentinel = Sentinel::start().await;
    let control = Control::start_with(&sentinel.url(), &[("RUNCAST__SERVERS__INTERVAL", "250ms")]).await;
    let prometheus = Prometheus::watch(&[port(&control.admin_url(""))], alerts).await;
    let replica = (sentinel.primary_index().await.unwrap() + 1) % 3;
    sentinel.nodes[replica].kill9();
    prometheus.until("a replica is killed (Sentinel, three servers)", alerts).await
}

pub(crate) async fn users_are_deleted(alerts: &[&str]) -> Vec<String> {
    let redis = Redis::start().await;
    let settings = [("RUNCAST__ACL__MANAGE", "true"), ("RUNCAST__ACL__INTERVAL", "100ms")];
    let control = Control::start_with(&redis.url(), &settings).await;
    runs(&control).create_run(new("r".into())).await.unwrap();
    let prometheus = Prometheus::watch(&[port(&control.admin_url(""))], alerts).await;
    tokio::select! {
        silent = prometheus.until("a run's user is deleted each second", alerts) => silent,
        () = async {
            loop {
                redis.command(&["ACL", "DELUSER", "runcast-run-r"]).await.unwrap();
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        } => unreachable!("it never ends"),
    }
}

pub(crate) async fn a_stranger_publishes(alerts: &[&str]) -> Vec<String> {
    let redis = Redis::start().await;
    let fanout = Fanout::start(&redis.url()).await;
    let (sidecar, _) = sidecar(&redis.url(), None);
    let _agent = talk(&sidecar, "a line\n".into(), OFTEN);
    let _viewer = reading(fanout.viewer("r", ""));
    let prometheus = Prometheus::watch(&[port(&fanout.admin_url(""))], alerts).await;
    // A counter's first value is none that it has grown to: one of them comes early.
    let publish = async || {
        let channels = redis.command(&["PUBSUB", "CHANNELS", "run:{r}:output*"]).await.unwrap();
        for channel in channels.items() {
            redis.command(&["PUBLISH", &channel.text(), "hello?"]).await.unwrap();
        }
    };
    tokio::select! {
        silent = prometheus.until("somebody publishes what is no message", alerts) => silent,
        () = async {
            loop {
                publish().await;
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
        } => unreachable!("it never ends"),
    }
}

pub(crate) async fn a_stream_is_trimmed_before_it_was_read(alerts: &[&str]) -> Vec<String> {
    let redis = Redis::start().await;
    let mut fanout = Fanout::start(&redis.url()).await;
    let (sidecar, _) = sidecar(&redis.url(), None);
    let _agent = talk(&sidecar, "a line\n".into(), Duration::from_millis(2));
    let _viewer = reading(fanout.viewer("r", ""));
    let prometheus = Prometheus::watch(&[port(&fanout.admin_url(""))], alerts).await;
    tokio::select! {
        silent = prometheus.until("the fan-out stands still and loses its subscription, and streams are trimmed", alerts) => silent,
        () = async {
            loop {
                fanout.process().signal(Signal::STOP);
                redis.command(&["CLIENT", "KILL", "TYPE", "pubsub"]).await.unwrap();
                tokio::time::sleep(Duration::from_millis(300)).await;
                for stream in keys(&redis, "run:{r}:output*").await {
                    redis.command(&["XTRIM", &stream, "MAXLEN", "1"]).await.unwrap();
                }
                fanout.process().signal(Signal::CONT);
                tokio::time::sleep(Duration::from_millis(700)).await;
            }
        } => unreachable!("it never ends"),
    }
}

pub(crate) async fn a_stream_is_trimmed_before_it_was_archived(alerts: &[&str]) -> Vec<String> {
    let redis = Redis::start().await;
    let folder = tempfile::tempdir().unwrap();
    let url = format!("file://{}/archive", folder.path().display());
    let settings = [("RUNCAST__ARCHIVE__URL", url.as_str()), ("RUNCAST__ARCHIVE__INTERVAL", "500ms")];
    let mut replay = Replay::start_with(&redis.url(), &settings).await;
    let prometheus = Prometheus::watch(&[port(&replay.admin_url(""))], alerts).await;
    replay.process().signal(Signal::STOP);
    let (sidecar, _) = sidecar(&redis.url(), None);
    let mut agent = sidecar.exec(&["sh", "-c", "for i in 1 2 3 4 5; do echo $i; sleep 0.1; done"]);
    agent.wait(Duration::from_secs(30)).await;
    for stream in keys(&redis, "run:{r}:output*").await {
        redis.command(&["XTRIM", &stream, "MAXLEN", "1"]).await.unwrap();
    }
    replay.process().signal(Signal::CONT);
    prometheus.until("a stream is trimmed while the archiver stands still", alerts).await
}
