//! The archive on a real S3 server: SeaweedFS, which `scripts/tools.sh weed` fetches.

#![allow(clippy::unwrap_used, reason = "this is test code")]

mod archived;

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use archived::*;
use object_store::aws::AmazonS3Builder;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode};
use runcast_protocol::State;
use runcast_testkit::{Pen, Process, Redis, Replay, eventually, free_port, http_get};

const CONFIG: &str = r#"{"identities":[{"name":"archive","credentials":[{"accessKey":"key","secretKey":"secret"}],
"actions":["Admin","Read","Write","List","Tagging"]}]}"#;

/// The server's program; none if it was not fetched.
fn program() -> Option<PathBuf> {
    let own = std::env::current_exe().unwrap();
    own.ancestors().map(|folder| folder.join("tools/weed")).find(|path| path.exists())
}

async fn weed(program: PathBuf, folder: &std::path::Path) -> (Process, String) {
    let port = free_port();
    let config = folder.join("s3.json");
    std::fs::write(&config, CONFIG).unwrap();
    let mut command = Command::new(program);
    command.args(["server", "-s3", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-volume.max=20"]);
    command.arg(format!("-dir={}", folder.display())).arg(format!("-s3.config={}", config.display()));
    for (name, port) in
        [("s3", port), ("master", free_port()), ("volume", free_port()), ("filer", free_port())]
    {
        command.arg(format!("-{name}.port={port}"));
    }
    // It would take fixed ports for these.
    command.args(["-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.iam=false"]);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let mut process = Process::start("weed", command);
    let url = format!("http://127.0.0.1:{port}");
    let path = format!("{url}/status");
    eventually("weed serves S3", DEADLINE, async || {
        assert!(process.is_running(), "weed ended: {}", process.log());
        http_get(&path, &[]).await.ok().filter(|(status, _, _)| *status == 200).map(drop)
    })
    .await;
    (process, url)
}

#[tokio::test]
async fn two_replicas_archive_to_s3() {
    let Some(program) = program() else {
        // Past the test harness, which shows nothing of a test that passes.
        let _ = writeln!(std::io::stderr(), "SKIPPED: no S3 server; scripts/tools.sh weed fetches one");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let (_weed, endpoint) = weed(program, folder.path()).await;
    let _ = rustls::crypto::ring::default_provider().install_default();
    let s3 = AmazonS3Builder::new().with_endpoint(&endpoint).with_allow_http(true).with_bucket_name("runs");
    let s3 = s3.with_access_key_id("key").with_secret_access_key("secret").build().unwrap();

    // A bucket is made by a PUT of its name, which is what an object without a name amounts to.
    let bucket = Path::default();
    eventually("a bucket is made", DEADLINE, async || {
        let signed = object_store::signer::Signer::signed_url(
            &s3,
            http::Method::PUT,
            &bucket,
            std::time::Duration::from_secs(60),
        );
        let answer = reqwest::Client::new().put(signed.await.unwrap()).send().await.ok()?;
        let there = answer.status().is_success() || answer.status() == http::StatusCode::CONFLICT;
        (there && s3.put(&Path::from("probe"), "x".into()).await.is_ok()).then_some(())
    })
    .await;

    // What all rests on.
    let path = Path::from("created/once");
    let attempts = (0..8).map(|n| s3.put_opts(&path, format!("{n}").into(), PutMode::Create.into()));
    let created = futures_util::future::join_all(attempts).await;
    assert_eq!(created.iter().filter(|result| result.is_ok()).count(), 1, "{created:?}");
    for error in created.into_iter().filter_map(Result::err) {
        assert!(matches!(error, object_store::Error::AlreadyExists { .. }), "{error}");
    }

    let redis = Redis::start().await;
    let settings = [
        ("RUNCAST__ARCHIVE__URL", "s3://runs/some/prefix"),
        ("RUNCAST__ARCHIVE__INTERVAL", "50ms"),
        ("RUNCAST__ARCHIVE__SEGMENT_BYTES", "100KiB"),
        ("AWS_ENDPOINT_URL", &endpoint),
        ("AWS_ALLOW_HTTP", "true"),
        ("AWS_ACCESS_KEY_ID", "key"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
    ];
    let replicas = [
        Replay::start_with(&redis.url(), &settings).await,
        Replay::start_with(&redis.url(), &settings).await,
    ];
    let mut pen = Pen::new(&redis.url(), "..", "a");
    say(&mut pen, 2000).await;
    pen.state(State::Succeeded).await;
    let get = async |path: &str| {
        let (status, _, body) = http_get(&replicas[1].url(path), &[]).await.unwrap();
        (status, serde_json::from_slice::<serde_json::Value>(&body).unwrap())
    };
    let shown = eventually("it is archived", DEADLINE, async || {
        let (status, shown) = get("/v1/archive/..").await;
        (status == 200 && shown["complete"] == true).then_some(shown)
    })
    .await;
    let said: usize = kept(pen.bus(), "..").await.values().map(Vec::len).sum();
    assert_eq!(shown["messages"], said);
    let segments = shown["segment_list"].as_array().unwrap().len();
    assert!(segments > 1, "{shown}");
    eventually("only what is named is there", DEADLINE, async || {
        let prefix = Path::from("some/prefix/runs/=dotdot");
        let found: Vec<_> = futures_util::StreamExt::collect::<Vec<_>>(s3.list(Some(&prefix))).await;
        let there = found.iter().filter(|object| {
            let object = object.as_ref().unwrap();
            object.location.as_ref().contains("/segments/")
        });
        (there.count() == segments).then_some(())
    })
    .await;
}
