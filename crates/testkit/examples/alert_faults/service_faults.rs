//! What can befall services, sidecars and agents.

use std::net::TcpStream;
use std::time::Duration;

use runcast_protocol::grpc::control as proto;
use runcast_protocol::grpc::control::command::Action;
use runcast_protocol::grpc::control::command_service_client::CommandServiceClient;
use runcast_protocol::grpc::control::send_command_request::Expiration;
use runcast_testkit::{Control, Fanout, Redis, Replay};
use rustix::process::Signal;
use tonic::transport::Endpoint;

use crate::prometheus::Prometheus;
use crate::{port, sidecar, talk};

const OFTEN: Duration = Duration::from_millis(20);

pub(crate) async fn a_sidecar_is_frozen_for_too_long(alerts: &[&str]) -> Vec<String> {
    let redis = Redis::start().await;
    let (sidecar, admin) = sidecar(&redis.url(), None);
    let agent = talk(&sidecar.set("RUNCAST__LEASE__TTL", "1s"), "a line\n".into(), OFTEN);
    let prometheus = Prometheus::watch(&[admin], alerts).await;
    agent.signal(Signal::STOP);
    tokio::time::sleep(Duration::from_secs(3)).await;
    agent.signal(Signal::CONT);
    prometheus.until("a sidecar stood still for three times its lease", alerts).await
}

pub(crate) async fn a_sidecar_is_killed(alerts: &[&str]) -> Vec<String> {
    let redis = Redis::start().await;
    let control = Control::start_with(&redis.url(), &[("RUNCAST__LEASE__GRACE", "1s")]).await;
    let (sidecar, _) = sidecar(&redis.url(), None);
    let mut agent = talk(&sidecar.set("RUNCAST__LEASE__TTL", "1s"), "a line\n".into(), OFTEN);
    let prometheus = Prometheus::watch(&[port(&control.admin_url(""))], alerts).await;
    agent.kill9();
    prometheus.until("a sidecar is killed (kill -9)", alerts).await
}

pub(crate) async fn nobody_takes_a_command(alerts: &[&str]) -> Vec<String> {
    let redis = Redis::start().await;
    let control = Control::start(&redis.url()).await;
    let (sidecar, _) = sidecar(&redis.url(), None);
    let agent = talk(&sidecar.set("RUNCAST__LEASE__TTL", "60s"), "a line\n".into(), OFTEN);
    let prometheus = Prometheus::watch(&[port(&control.admin_url(""))], alerts).await;
    agent.signal(Signal::STOP);
    let mut client = CommandServiceClient::new(Endpoint::from_shared(control.url()).unwrap().connect_lazy());
    let request = proto::SendCommandRequest {
        parent: "runs/r".into(),
        command: Some(proto::Command {
            action: Some(Action::Pause(proto::PauseAction {})),
            ..Default::default()
        }),
        expiration: Some(Expiration::Ttl(prost_types::Duration { seconds: 1, nanos: 0 })),
        ..Default::default()
    };
    client.send_command(request).await.unwrap();
    let silent = prometheus.until("a command of 1 s reaches a sidecar that stands still", alerts).await;
    agent.signal(Signal::CONT);
    silent
}

pub(crate) async fn a_message_is_too_large(alerts: &[&str]) -> Vec<String> {
    let redis = Redis::start().await;
    let folder = tempfile::tempdir().unwrap();
    let (sidecar, admin) = sidecar(&redis.url(), Some(folder.path()));
    let sidecar = sidecar.set("RUNCAST__JOURNAL__MAX_BYTES", "1MiB").set("RUNCAST__LOGS__HOLD", "20s");
    let large = folder.path().join("go");
    let script = format!(
        "until [ -e {} ]; do sleep 0.1; done; head -c 50000 /dev/zero >&2; echo >&2; sleep 100",
        large.display()
    );
    let _agent = sidecar.exec(&["sh", "-c", &script]);
    let prometheus = Prometheus::watch(&[admin], alerts).await;
    std::fs::write(large, "").unwrap();
    prometheus.until("an agent logs a line that its journal has no room for", alerts).await
}

pub(crate) async fn one_client_connects_too_often(alerts: &[&str]) -> Vec<String> {
    let redis = Redis::start().await;
    let settings = [("RUNCAST__HTTP__MAX_CONNECTIONS_PER_CLIENT", "2")];
    let fanout = Fanout::start_with(&redis.url(), &settings).await;
    let prometheus = Prometheus::watch(&[port(&fanout.admin_url(""))], alerts).await;
    let flood = async {
        let mut open = Vec::new();
        loop {
            open.push(TcpStream::connect(("127.0.0.1", fanout.port())).unwrap());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        silent = prometheus.until("a client opens 20 connections a second, of 2 that it may have", alerts) => silent,
        () = flood => unreachable!("it never ends"),
    }
}

pub(crate) async fn the_archive_cannot_be_written(alerts: &[&str]) -> Vec<String> {
    let redis = Redis::start().await;
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("archive");
    let url = format!("file://{}", archive.display());
    let settings = [("RUNCAST__ARCHIVE__URL", url.as_str()), ("RUNCAST__ARCHIVE__INTERVAL", "500ms")];
    let replay = Replay::start_with(&redis.url(), &settings).await;
    let prometheus = Prometheus::watch(&[port(&replay.admin_url(""))], alerts).await;
    // Root may write where nobody may: a file stands where the folder was.
    std::fs::remove_dir_all(&archive).unwrap();
    std::fs::write(&archive, "").unwrap();
    let (sidecar, _) = sidecar(&redis.url(), None);
    sidecar.exec(&["echo", "hello"]).wait(Duration::from_secs(30)).await;
    prometheus.until("the archive's folder is gone when a run ends", alerts).await
}

pub(crate) async fn a_service_does_not_end(alerts: &[&str]) -> Vec<String> {
    let redis = Redis::start().await;
    let mut fanout = Fanout::start_with(&redis.url(), &[("RUNCAST__DRAIN__TIME", "100s")]).await;
    let mut viewers = Vec::new();
    for _ in 0..10 {
        let mut viewer = fanout.viewer("r", "");
        viewer.connect().await.unwrap();
        viewers.push(viewer);
    }
    let prometheus = Prometheus::watch(&[port(&fanout.admin_url(""))], alerts).await;
    fanout.process().terminate();
    prometheus.until("a fan-out lets its viewers go for 100 s", alerts).await
}

pub(crate) async fn services_are_gone(alerts: &[&str]) -> Vec<String> {
    let redis = Redis::start().await;
    let mut fanout = Fanout::start(&redis.url()).await;
    let mut replay = Replay::start(&redis.url()).await;
    let ports = [port(&fanout.admin_url("")), port(&replay.admin_url(""))];
    let prometheus = Prometheus::watch(&ports, alerts).await;
    replay.process().kill9();
    let mut silent = prometheus.until("replay is killed", &alerts[..1]).await;
    fanout.process().kill9();
    silent.extend(prometheus.until("all services are killed", &alerts[1..]).await);
    silent
}
