//! `runcast export`, `replay`, `archive` and `runs` against a replay service made for tests, and the real one.

#![allow(clippy::unwrap_used, reason = "this is test code")]

mod support;

use std::path::Path;
use std::process::{Command, Output, Stdio};

use runcast_protocol::State;
use runcast_testkit::{Pen, Redis, Replay};
use serde_json::json;
use support::{Asked, Reply, Service, page, recorded, words};

async fn runcast(replay: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_runcast"));
    command.args(arguments).env("RUNCAST_REPLAY", replay).stdin(Stdio::null());
    command.env("RUNCAST__REDIS__URL", "redis://127.0.0.1:1");
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

fn said(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    entries.map(|name| name.into_string().unwrap()).collect()
}

fn in_folder(folder: &Path, name: &str) -> String {
    folder.join(name).to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_goes_on_where_the_connection_was_cut() {
    let lines = recorded(500);
    let whole: Vec<u8> = lines.iter().flat_map(|line| [line, &b"\n"[..]].concat()).collect();
    let service = Service::start(move |number, asked| {
        if !asked.path.ends_with("/messages") {
            return Reply::problem(404, "nothing is known of it");
        }
        let mut reply = page(&lines, asked, 300);
        // In the middle of a line, at its end, and before anything came.
        reply.cut = match number {
            2 => Some(reply.body.len() / 2),
            3 => reply.body.iter().position(|byte| *byte == b'\n').map(|end| end + 1),
            5 => Some(0),
            _ => None,
        };
        reply
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let path = in_folder(folder.path(), "run.ndjson");
    let output = runcast(&service.url(), &["export", "run-1", "-o", &path]).await;
    let (code, stdout, stderr) = said(&output);
    assert!(code == 0 && stdout.is_empty(), "{stderr}");
    assert!(std::fs::read(&path).unwrap() == whole, "every byte, once and in order");
    assert!(stderr.contains("1000 messages, ") && stderr.contains(&whole.len().to_string()), "{stderr}");
    assert_eq!(names(folder.path()), ["run.ndjson"]);

    let output = runcast(&service.url(), &["export", "run-1", "-o", "-", "--format", "ndjson"]).await;
    assert!(output.status.success() && output.stdout == whole);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_that_fails_leaves_nothing_and_says_why() {
    let lines = recorded(10);
    let service = Service::start(move |_, asked| match asked.path.as_str() {
        // Its one line never comes whole.
        "/v1/runs/broken/messages" => Reply { cut: Some(20), ..page(&lines, asked, 1) },
        "/v1/runs/broken/export" => Reply { cut: Some(4), ..Reply::ok(b"PAR1.....PAR1".to_vec()) },
        _ => Reply::problem(404, "nothing is known of run r"),
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    for (arguments, why) in [
        (&["broken", "-o", "x.ndjson"][..], "gave up after 5 attempts"),
        (&["broken", "-o", "x.parquet"], "gave up after 5 attempts"),
        (&["r", "-o", "x.ndjson"], "nothing is known of run r"),
        (&["r", "-o", "x.parquet"], "nothing is known of run r"),
        (&["r", "-o", "x.txt"], "--variations"),
        (&["r", "-o", "x.txt", "--variations", "a"], "nothing is known of run r"),
        (&["r", "-o", "x.csv"], "--format"),
        (&["r", "-o", "x.parquet", "--variations", "a"], "the whole run"),
        (&["r", "-o", "no/x.ndjson"], "cannot write"),
    ] {
        let mut arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        arguments[2] = in_folder(folder.path(), &arguments[2]);
        let arguments: Vec<&str> =
            ["export"].into_iter().chain(arguments.iter().map(String::as_str)).collect();
        let (code, _, stderr) = said(&runcast(&service.url(), &arguments).await);
        assert!(code == 1 && stderr.contains(why), "{arguments:?}: {stderr}");
        assert!(names(folder.path()).is_empty(), "{arguments:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn words_are_exported_byte_for_byte_across_a_cut() {
    let lines = recorded(200);
    let (first, second) = (words(&lines, "a"), words(&lines, "b"));
    let service = Service::start(move |number, asked| {
        let Some(variation) = asked.query.get("variations") else {
            return Reply::json(&json!({"run_id":"run-1","variations":{"a":{},"b":{},"silent":{}}}));
        };
        let text = words(&lines, variation).into_bytes();
        let begin = usize::try_from(asked.range.unwrap_or(0)).unwrap();
        let mut reply = Reply::ok(&text[begin..]);
        if variation == "silent" {
            return Reply::problem(404, "nothing was said there");
        }
        if asked.range.is_some() {
            reply.status = 206;
            reply.headers.push(("content-range", format!("bytes {begin}-{}/{}", text.len() - 1, text.len())));
        }
        // In the middle of a character.
        reply.cut = (number == 1).then(|| text.iter().position(|byte| *byte > 127).unwrap() + 1);
        reply
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let path = in_folder(folder.path(), "a.txt");
    let (code, _, stderr) =
        said(&runcast(&service.url(), &["export", "run-1", "-o", &path, "--variation", "a"]).await);
    assert_eq!((code, std::fs::read_to_string(&path).unwrap()), (0, first.clone()), "{stderr}");
    assert!(service.asked().iter().any(|asked| asked.range.is_some()));
    let (_, stdout, _) =
        said(&runcast(&service.url(), &["export", "run-1", "-o", "-", "--format", "txt"]).await);
    assert_eq!(stdout, format!("==> a <==\n{first}\n==> b <==\n{second}\n==> silent <==\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_and_the_archive_are_listed_whole_and_deleted_only_when_sure() {
    let service = Service::start(|_, asked: &Asked| {
        let token = asked.query.get("page_token").map_or("", String::as_str);
        let item = |id: &str| {
            json!({"run_id":id,"state":"succeeded","started":"2026-01-10T10:30:00Z","duration_seconds":65,
                "variations":{"a":{"last_words":"the end\n"}},"channels":{"output":{"messages":7,"bytes":9}},
                "segments":2,"messages":7,"bytes":2048,"raw_bytes":9000,"complete":true})
        };
        match (asked.method.as_str(), asked.path.as_str()) {
            ("GET", "/v1/runs" | "/v1/archive") if token.is_empty() => {
                Reply::json(&json!({"runs":[item("one")],"next_page_token":"x=&y"}))
            }
            ("GET", "/v1/runs" | "/v1/archive") => {
                assert_eq!(token, "x%3D%26y");
                Reply::json(&json!({"runs":[item("two")],"next_page_token":""}))
            }
            ("POST", "/v1/archive/one/verify") => {
                Reply::json(&json!({"ok":true,"segments":2,"messages":7,"problems":[]}))
            }
            ("POST", "/v1/archive/two/verify") => Reply::json(
                &json!({"ok":false,"segments":2,"messages":5,"problems":["00000001: its checksum is wrong"]}),
            ),
            ("DELETE", "/v1/archive/one") => Reply { status: 204, ..Reply::default() },
            _ => Reply::problem(404, "no such thing"),
        }
    })
    .await;
    let url = service.url();
    let (code, stdout, stderr) = said(&runcast(&url, &["runs", "--state", "succeeded,lost"]).await);
    assert!(code == 0 && stderr.is_empty(), "{stderr}");
    let rows: Vec<_> = stdout.lines().collect();
    assert!(rows.len() == 3 && rows[0].contains("LAST WORDS") && rows[2].ends_with("the end"), "{stdout}");
    assert_eq!(service.asked()[0].query["state"], "succeeded,lost");
    let (_, stdout, _) = said(&runcast(&url, &["runs", "-o", "json", "--limit", "1"]).await);
    assert_eq!(serde_json::from_str::<Vec<serde_json::Value>>(&stdout).unwrap().len(), 1);

    let (_, stdout, _) = said(&runcast(&url, &["archive", "ls"]).await);
    assert!(stdout.lines().count() == 3 && stdout.contains("2.0 KiB"), "{stdout}");
    let (code, stdout, _) = said(&runcast(&url, &["archive", "verify", "one"]).await);
    assert_eq!((code, stdout.as_str()), (0, "✓ one: 7 messages in 2 segments\n"));
    let (code, stdout, _) = said(&runcast(&url, &["archive", "verify", "one", "two"]).await);
    assert!(code == 1 && stdout.contains("its checksum is wrong"), "{stdout}");
    let (code, _, stderr) = said(&runcast(&url, &["archive", "rm", "one"]).await);
    assert!(code == 1 && stderr.contains("use --yes"), "{stderr}");
    assert!(service.asked().iter().all(|asked| asked.method != "DELETE"));
    let (code, stdout, stderr) = said(&runcast(&url, &["archive", "rm", "one", "two", "--yes"]).await);
    assert_eq!((code, stdout.as_str()), (1, "one is deleted from the archive\n"));
    assert!(stderr.contains("two is not archived"), "{stderr}");
}

/// A run of one variation in a real Redis.
async fn tell(redis: &Redis) -> String {
    let mut pen = Pen::new(&redis.url(), "run-1", "var-1");
    pen.state(State::Running).await;
    let mut text = String::new();
    for number in 0..300 {
        let word = format!("{number} Grüße\r\n\u{2028}");
        pen.say(&word).await;
        text += &word;
    }
    pen.state(State::Succeeded).await;
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_replayed_and_exported_by_the_real_service() {
    let redis = Redis::start().await;
    let replay = Replay::start(&redis.url()).await;
    let text = tell(&redis).await;
    let url = replay.url("");
    let arguments = ["replay", "run-1", "--speed", "max", "--max-silence", "1s", "--variations", "var-1"];
    let (code, stdout, stderr) = said(&runcast(&url, &arguments).await);
    assert_eq!((code, stdout), (0, text.clone()), "{stderr}");
    assert!(stderr.contains("run run-1 succeeded"), "{stderr}");
    let begin = [&arguments[..], &["--from", "var-1:299"]].concat();
    assert!(text.ends_with(&said(&runcast(&url, &begin).await).1));

    let export = |format| ["export", "run-1", "-o", "-", "--variations", "var-1", "--format", format];
    let (code, stdout, stderr) = said(&runcast(&url, &export("txt")).await);
    assert_eq!((code, stdout), (0, text), "{stderr}");
    let (code, stdout, stderr) = said(&runcast(&url, &export("ndjson")).await);
    assert_eq!((code, stdout.lines().count()), (0, 302), "{stderr}");
    let (code, _, stderr) = said(&runcast(&url, &["replay", "run-2"]).await);
    assert!(code == 1 && stderr.contains("run-2"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_archived_verified_fetched_and_deleted() {
    let redis = Redis::start().await;
    let folder = tempfile::tempdir().unwrap();
    let archive = format!("file://{}", folder.path().join("archive").display());
    let settings = [("RUNCAST__ARCHIVE__URL", archive.as_str()), ("RUNCAST__ARCHIVE__INTERVAL", "100ms")];
    let replay = Replay::start_with(&redis.url(), &settings).await;
    let text = tell(&redis).await;
    let url = replay.url("");
    runcast_testkit::eventually("the run is archived", std::time::Duration::from_secs(30), async || {
        let (_, stdout, _) = said(&runcast(&url, &["archive", "ls", "-o", "json"]).await);
        let runs: Vec<serde_json::Value> = serde_json::from_str(&stdout).unwrap_or_default();
        runs.iter().any(|run| run["run_id"] == "run-1" && run["complete"] == true).then_some(())
    })
    .await;
    let (code, stdout, stderr) = said(&runcast(&url, &["archive", "verify", "run-1"]).await);
    assert!(code == 0 && stdout.contains("302 messages"), "{stdout} {stderr}");
    let (_, stdout, _) = said(&runcast(&url, &["archive", "get", "run-1"]).await);
    assert!(stdout.contains("SEGMENT") && stdout.contains(".parquet"), "{stdout}");

    let fetched = folder.path().join("fetched");
    let (code, _, stderr) =
        said(&runcast(&url, &["archive", "get", "run-1", "-o", fetched.to_str().unwrap()]).await);
    assert!(code == 0 && stderr.contains("302 messages"), "{stderr}");
    let mut there = names(&fetched);
    there.sort();
    assert_eq!(there, ["run-1.json", "run-1.parquet"]);

    redis.command(&["FLUSHALL"]).await.unwrap();
    let (_, stdout, _) = said(&runcast(&url, &["replay", "run-1", "--speed", "max"]).await);
    assert_eq!(stdout, text, "what Redis has let go is there all the same");
    // What is known of runs is kept up by and by.
    runcast_testkit::eventually("the run is listed", std::time::Duration::from_secs(30), async || {
        let (_, stdout, _) = said(&runcast(&url, &["runs"]).await);
        (stdout.contains("run-1") && stdout.contains("succeeded")).then_some(())
    })
    .await;
    assert_eq!(runcast(&url, &["archive", "rm", "run-1", "--yes"]).await.status.code(), Some(0));
    let (_, stdout, _) = said(&runcast(&url, &["archive", "ls"]).await);
    assert_eq!(stdout, "Nothing is archived.\n");
}
