//! `runcast dead` against a real Redis.

#![allow(clippy::unwrap_used, reason = "this is test code")]

use std::io::{Read, Write};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use bytes::Bytes;
use runcast_bus::{DeadLetter, EntryId, Limits};
use runcast_protocol::{Json, RunId, Sequence, State, timestamp};
use runcast_testkit::{Pen, Redis};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

const LIMITS: Limits = Limits { ttl: Duration::from_secs(600), entries: 1000 };

/// A run in a Redis of its own, whose one variation has said a word.
struct Run {
    redis: Redis,
    pen: Pen,
    id: RunId,
}

impl Run {
    async fn start() -> Self {
        let redis = Redis::start().await;
        let mut pen = Pen::new(&redis.url(), "run-1", "var-1");
        pen.state(State::Running).await;
        Self { redis, pen, id: RunId::new("run-1").unwrap() }
    }

    async fn bury(&self, original: impl Into<Bytes>) -> String {
        let letter = DeadLetter {
            reason: "redis rejects: too large".into(),
            time: timestamp::now(),
            lane: "output/var-1".parse().unwrap(),
            sequence: Sequence::new(7).ok(),
            original: original.into(),
        };
        self.pen.bus().bury(&self.id, &letter, LIMITS).await.unwrap().to_string()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_runcast"));
        command.arg("dead").args(arguments).env("RUNCAST__REDIS__URL", self.redis.url()).stdin(Stdio::null());
        command
    }

    /// Runs it to its end: exit code, standard output, standard error.
    async fn dead(&self, arguments: &[&str]) -> (i32, String, String) {
        let mut command = self.command(arguments);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        said(output)
    }

    async fn left(&self) -> usize {
        self.pen.bus().dead_letters(&self.id, EntryId::default(), 1000).await.unwrap().len()
    }

    /// What viewers see of the output.
    async fn output(&self) -> String {
        let reply = self.redis.command(&["XRANGE", "run:{run-1}:output:var-1", "-", "+"]).await.unwrap();
        reply.text()
    }
}

fn said(output: Output) -> (i32, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn message(text: &str) -> String {
    let text = Json::string(text);
    format!(
        r#"{{"timestamp":"2026-01-10T10:30:00.123456Z","run_id":"run-1","variation_id":"var-1","sequence":7,"type":"output","content":{},"metadata":{{"n":1.10}}}}"#,
        text.as_str()
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn list_shows_all_of_them_however_many() {
    let run = Run::start().await;
    let (code, stdout, _) = run.dead(&["list", "run-1"]).await;
    assert_eq!((code, stdout.as_str()), (0, "No dead letters in run run-1.\n"));
    let mut ids = Vec::new();
    for number in 0..40 {
        ids.push(run.bury(message(&format!("word {number}"))).await);
    }
    let (code, stdout, _) = run.dead(&["list", "run-1"]).await;
    let rows: Vec<Vec<&str>> = stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["ID", "AGE", "LANE", "SEQUENCE", "BYTES", "REASON"]);
    assert!(code == 0 && rows[1..].iter().map(|row| row[0]).eq(ids.iter().map(String::as_str)), "{stdout}");
    assert!(stdout.contains("output/var-1") && stdout.contains("redis rejects: too large"), "{stdout}");

    let (code, stdout, _) = run.dead(&["list", "run-1", "-o", "json"]).await;
    let letters: Vec<serde_json::Value> = serde_json::from_str(&stdout).unwrap();
    assert_eq!((code, letters.len()), (0, 40));
    assert_eq!((&letters[39]["id"], &letters[39]["sequence"]), (&ids[39].as_str().into(), &7.into()));
    assert_eq!(letters[0]["bytes"], message("word 0").len());
}

#[tokio::test(flavor = "multi_thread")]
async fn show_has_the_message_and_nothing_that_steers_the_terminal() {
    let run = Run::start().await;
    let (good, bad) = (run.bury(message("a\u{1b}[31mb")).await, run.bury(&b"\x1b[2J\xff"[..]).await);
    let (code, stdout, _) = run.dead(&["show", "run-1", &good]).await;
    assert_eq!(code, 0);
    for part in ["output/var-1", "too large", "\n  \"content\": \"a\\u001b[31mb\",\n", "    \"n\": 1.10\n"] {
        assert!(stdout.contains(part), "{part} in {stdout}");
    }
    let (_, stdout, _) = run.dead(&["show", "run-1", &bad]).await;
    assert!(stdout.ends_with("\n\\u{1b}[2J\\xff\n"), "{stdout}");
    let (_, stdout, _) = run.dead(&["show", "run-1", &good, "-o", "json"]).await;
    assert!(stdout.contains(&message("a\u{1b}[31mb")), "byte for byte: {stdout}");
    let letter: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((&letter["id"], &letter["sequence"]), (&good.as_str().into(), &7.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_said_with_where_to_look() {
    let run = Run::start().await;
    for (arguments, hint) in [
        (&["list", "run-2"][..], "`runcast runs`"),
        (&["show", "run-2", "5-0"], "`runcast runs`"),
        (&["show", "run-1", "5-0"], "`runcast dead list run-1`"),
        (&["drop", "run-1", "5-0"], "`runcast dead list run-1`"),
        (&["requeue", "run-1", "5-0"], "`runcast dead list run-1`"),
        (&["show", "run-1", "5"], "use an ID"),
        (&["list", "--file", "/nowhere"], "/nowhere"),
    ] {
        let (code, stdout, stderr) = run.dead(arguments).await;
        assert!(code == 1 && stdout.is_empty() && stderr.contains(hint), "{arguments:?}: {stderr}");
    }
    let id = run.bury(message("kept")).await;
    assert_eq!(run.dead(&["drop", "run-1", &id, "5-0"]).await.0, 1);
    assert_eq!(run.left().await, 1, "one that is not there keeps all");
}

#[tokio::test(flavor = "multi_thread")]
async fn requeue_waits_for_the_end_of_the_variation_unless_forced() {
    let mut run = Run::start().await;
    run.pen.say("hello").await;
    let first = run.bury(message("the lost word")).await;
    let (code, _, stderr) = run.dead(&["requeue", "run-1", &first]).await;
    assert!(code == 1 && stderr.contains("var-1 has not ended (its last status is running)"), "{stderr}");
    assert!(stderr.contains("--force") && run.left().await == 1, "{stderr}");

    run.pen.state(State::Succeeded).await;
    let (code, stdout, stderr) = run.dead(&["requeue", "run-1", &first]).await;
    assert_eq!((code, stdout), (0, format!("{first} is message 2 of output/var-1 now\n")), "{stderr}");
    assert!(run.output().await.contains("the lost word"));

    run.pen.state(State::Running).await;
    let (good, bad) = (run.bury(message("another")).await, run.bury("no message").await);
    let (code, stdout, stderr) = run.dead(&["requeue", "run-1", "--all", "--force"]).await;
    assert_eq!((code, stdout), (1, format!("{good} is message 3 of output/var-1 now\n")));
    assert!(stderr.contains(&format!("{bad} stays")) && run.left().await == 1, "{stderr}");
    assert_eq!(run.output().await.matches("another").count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn drop_deletes_what_was_named_and_all_only_when_sure() {
    let run = Run::start().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(run.bury("whatever").await);
    }
    let (code, stdout, _) = run.dead(&["drop", "run-1", &ids[1]]).await;
    assert_eq!((code, stdout, run.left().await), (0, format!("{} is dropped\n", ids[1]), 2));
    let (code, _, stderr) = run.dead(&["drop", "run-1", "--all"]).await;
    assert!(code == 1 && stderr.contains("use --yes") && run.left().await == 2, "{stderr}");
    assert_eq!(run.dead(&["drop", "run-1", "--all", "--yes"]).await.0, 0);
    assert_eq!(run.left().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_terminal_drop_asks_before_it_deletes_all() {
    let run = Run::start().await;
    run.bury("whatever").await;
    for (answer, code, left) in [("\n", 1, 1), ("n\n", 1, 1), ("y\n", 0, 0)] {
        let keyboard = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&keyboard).unwrap();
        unlockpt(&keyboard).unwrap();
        let terminal = ptsname(&keyboard, Vec::new()).unwrap().into_string().unwrap();
        let terminal = std::fs::File::options().read(true).write(true).open(terminal).unwrap();
        let mut command = run.command(&["drop", "run-1", "--all"]);
        let mut process = command.stdin(terminal).stdout(Stdio::piped()).spawn().unwrap();
        std::fs::File::from(keyboard.try_clone().unwrap()).write_all(answer.as_bytes()).unwrap();
        let (status, said) = tokio::task::spawn_blocking(move || {
            let mut said = String::new();
            process.stdout.take().unwrap().read_to_string(&mut said).unwrap();
            (process.wait().unwrap(), said)
        })
        .await
        .unwrap();
        assert!(said.starts_with("Drop the one dead letter of run run-1?"), "{said}");
        assert_eq!((status.code(), run.left().await), (Some(code), left), "{answer:?}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_beside_a_journal_is_read_too() {
    let run = Run::start().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dead-letters.ndjson");
    let line = |original: &str| {
        format!(
            r#"{{"reason":"too large","time":"2026-01-10T10:30:00.123456Z","lane":"output/var-1","sequence":3,"original":{original}}}"#
        )
    };
    std::fs::write(&path, [line(&message("one")), line("\"no JSON\"")].join("\n") + "\n").unwrap();
    let path = path.to_str().unwrap();
    let (code, stdout, stderr) = run.dead(&["list", "--file", path]).await;
    let rows: Vec<&str> = stdout.lines().collect();
    assert!(code == 0 && rows.len() == 3 && rows[2].starts_with("2  "), "{stdout} {stderr}");
    let (code, stdout, _) = run.dead(&["show", "--file", path, "1"]).await;
    assert!(code == 0 && stdout.contains(r#""content": "one""#), "{stdout}");
    let (_, stdout, _) = run.dead(&["show", "--file", path, "2"]).await;
    assert!(stdout.ends_with("\n\nno JSON\n"), "{stdout}");
    let (code, _, stderr) = run.dead(&["show", "--file", path, "3"]).await;
    assert!(code == 1 && stderr.contains("runcast dead list --file"), "{stderr}");
}
