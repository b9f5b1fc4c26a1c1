//! Secrets: nothing of them leaves the sidecar, however they come.

mod support;

use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use runcast_bus::{Bus, EntryId, RedisConfig};
use runcast_protocol::{Lane, RunId};
use runcast_testkit::{Redis, Sidecar};
use serde_json::json;
use support::{Lanes, RUN, SOON, call, stream};

/// What must not be found anywhere, whole or in part.
const PARTS: [&str; 5] = ["IOSFODNN7EX", "rrect-horse", "MIIEvQIBADAN", "hunter2", "pa55w"];

const TEXT: &str = "id AKIAIOSFODNN7EXAMPLE; correct-horse; PASSWORD=hunter2222 redis://u:pa55word@host/\n\
    -----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkq\n-----END PRIVATE KEY-----\nbye";

const CLEAN: &str = "id AKIA[redacted:aws-access-key]; [redacted:AGENT_TOKEN]; PASSWORD=[redacted:password] \
    redis://u:[redacted:url-password]@host/\n\
    -----BEGIN PRIVATE KEY-----[redacted:private-key]-----END PRIVATE KEY-----\nbye";

fn sidecar(redis: &Redis, journal: &Path) -> Sidecar {
    // What is large enough becomes a dead letter. What is safe stays in the journal's file until it is full.
    Sidecar::new(&redis.url(), RUN, "a")
        .set("RUNCAST__JOURNAL__FOLDER", journal.display())
        .set("RUNCAST__JOURNAL__MAX_BYTES", "1MiB")
        .set("RUNCAST__LOGS__HOLD", "10s")
        .set("AGENT_TOKEN", "correct-horse")
}

fn has_none(what: &str, bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for part in PARTS {
        assert!(!text.contains(part), "{part} in {what}: {text}");
    }
}

/// Looks through everything that Redis and the folder have; returns how many bytes that is.
async fn look_through(redis: &Redis, folder: &Path) -> usize {
    let (bus, run) =
        (Bus::connect(&RedisConfig::new(redis.url())).expect("an address"), RunId::new(RUN).expect("an id"));
    let mut seen = 0;
    for lane in ["output/a", "logs/a", "status/a", "metrics/a", "control/a", "acks/a"] {
        let lane: Lane = lane.parse().expect("a lane");
        for batch in bus.read(&run, &lane, EntryId::default(), 10_000).await.expect("redis answers").batches {
            has_none("redis", &batch);
            seen += batch.len();
        }
    }
    for (_, letter) in bus.dead_letters(&run, EntryId::default(), 100).await.expect("redis answers") {
        has_none("a dead letter", &letter.original);
        seen += letter.original.len();
    }
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.is_file() {
                let bytes = std::fs::read(&path).expect("a file");
                has_none(&path.display().to_string(), &bytes);
                seen += bytes.len();
            }
        }
    }
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_agent_writes_byte_by_byte_has_no_secrets_anywhere() {
    let redis = Redis::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let script = folder.path().join("agent.sh");
    // bash writes each printf at once. The last line on standard error is a dead letter.
    let text = r#"say() { local i; for ((i = 0; i < ${#1}; i++)); do printf %s "${1:i:1}"; done; }
say "$TEXT"
say "$TEXT" >&2
printf '\n{"timestamp":1,"level":2,"password":"hunter2 \\u0041","token":"correct\\u002dhorse"}\n'
{ head -c 50000 /dev/zero; say "$TEXT" | tr '\n' ' '; echo; } >&2
exit 3"#;
    std::fs::write(&script, text).expect("written");
    let journal = folder.path().join("journal");
    let mut command = sidecar(&redis, &journal).set("TEXT", TEXT).command("exec");
    command.args(["--", "bash"]).arg(&script).stdin(Stdio::null());
    let ended =
        tokio::task::spawn_blocking(move || command.output().expect("it starts")).await.expect("no panic");
    assert_eq!(ended.status.code(), Some(3));
    has_none("our own standard output", &ended.stdout);
    has_none("our own standard error and logs", &ended.stderr);
    let lanes = Lanes::of(&redis.url());
    assert_eq!(lanes.text().await.expect("redis answers"), format!("{CLEAN}\n"));
    let logs = lanes.logs().await;
    let record = logs.iter().find(|(content, _)| content["level"] == 2).expect("a record");
    assert_eq!(
        (&record.0["password"], &record.0["token"]),
        (&json!("[redacted:password]"), &json!("[redacted:AGENT_TOKEN]"))
    );
    assert!(look_through(&redis, &journal).await > 50_000, "the dead letter is there");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_through_a_pipe_byte_by_byte_has_none_either() {
    let redis = Redis::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let mut process = sidecar(&redis, folder.path()).pipe();
    let mut stdin = process.child().stdin.take().expect("piped");
    for byte in TEXT.as_bytes() {
        stdin.write_all(&[*byte]).expect("written");
    }
    let lanes = Lanes::of(&redis.url());
    lanes.say(CLEAN).await;
    drop(stdin);
    assert_eq!(process.wait(SOON).await.code(), Some(0));
    assert!(look_through(&redis, folder.path()).await > CLEAN.len());
    has_none("the logs", process.log().as_bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_be_a_secret_waits_for_the_configured_silence() {
    let redis = Redis::start().await;
    let sidecar = Sidecar::new(&redis.url(), RUN, "a").set("RUNCAST__REDACT__HOLD", "300ms");
    let mut process = sidecar.pipe();
    let mut stdin = process.child().stdin.take().expect("piped");
    let lanes = Lanes::of(&redis.url());
    stdin.write_all(b"key AKIAIOSF").expect("written");
    lanes.say("key AKIAIOSF").await;
    stdin.write_all(b"ODNN7EXAMPLE").expect("written");
    lanes.say("key AKIAIOSF[redacted:aws-access-key]").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_api_takes_has_no_secrets() {
    let redis = Redis::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("agent.sock");
    let mut process = sidecar(&redis, &folder.path().join("journal")).serve(&socket).await;
    let (pieces, answer) = stream(&socket, "/v1/output", "");
    for piece in TEXT.as_bytes().chunks(1) {
        pieces.send(piece).await.expect("open");
    }
    drop(pieces);
    assert_eq!(answer.await.expect("answered").0, 200);
    let lanes = Lanes::of(&redis.url());
    lanes.say(CLEAN).await;
    for kind in ["log", "metric"] {
        let message =
            json!({"type": kind, "content": {"a": [TEXT]}, "metadata": {"note": TEXT}, "more": TEXT});
        assert_eq!(
            call(&socket, "POST", "/v1/messages", "application/json", &message.to_string()).await.0,
            200
        );
    }
    let letter = json!({ "payload": { "text": TEXT } }).to_string();
    assert_eq!(call(&socket, "POST", "/v1/letters", "application/json", &letter).await.0, 200);
    let end = json!({ "state": "failed", "reason": TEXT }).to_string();
    assert_eq!(call(&socket, "POST", "/v1/finish", "application/json", &end).await.0, 200);
    assert_eq!(lanes.statuses().await.pop().expect("a status").reason.as_deref(), Some(CLEAN));
    process.terminate();
    assert_eq!(process.wait(SOON).await.code(), Some(0));
    has_none("the logs", process.log().as_bytes());
    look_through(&redis, &folder.path().join("journal")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_pattern_is_named_at_the_start() {
    let folder = tempfile::tempdir().expect("a folder");
    for (rule, why) in [
        ("secret = '('", "unclosed group"),
        ("secret = '([a-z]{1,500}){500}'", "limit"),
        ("secret = 'x*'", "match nothing"),
    ] {
        let file = folder.path().join("config.toml");
        std::fs::write(
            &file,
            format!("[redact]\ncustom = [{{ name = \"acme\", after = 'acme_', {rule} }}]\n"),
        )
        .expect("written");
        let mut command = Sidecar::new("redis://127.0.0.1:1", RUN, "a").command("pipe");
        command.arg("--config").arg(&file).stdin(Stdio::null());
        let ended = tokio::task::spawn_blocking(move || command.output().expect("it starts"))
            .await
            .expect("no panic");
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(78), "{said}");
        assert!(said.contains("redact.custom") && said.contains("`acme`") && said.contains(why), "{said}");
    }
}
