//! `runcast tail`, `runs` and `doctor` against a real Redis, fan-out and sidecars.

#![allow(clippy::unwrap_used, reason = "this is test code")]

use std::io::{Read, Write};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use runcast_testkit::{Fanout, Process, Redis, Sidecar, eventually};

const DEADLINE: Duration = Duration::from_secs(60);

fn runcast(fanout: &Fanout, redis: &Redis, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_runcast"));
    command.args(arguments).env("RUNCAST_FANOUT", fanout.url("")).env("RUNCAST__REDIS__URL", redis.url());
    // Nobody is there: what one has on this machine must not mix in.
    command.env("RUNCAST_REPLAY", "http://127.0.0.1:1");
    command.env("RUNCAST_ADMIN", fanout.admin_url("")).stdin(Stdio::null());
    command
}

async fn output(mut command: Command) -> Output {
    // The test's own runtime goes on meanwhile.
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

/// A `tail` whose standard output is kept as it comes.
struct Tail {
    process: Process,
    words: Arc<Mutex<Vec<u8>>>,
}

impl Tail {
    fn start(fanout: &Fanout, redis: &Redis, arguments: &[&str]) -> Self {
        let mut command = runcast(fanout, redis, &[&["tail"], arguments].concat());
        command.stdout(Stdio::piped());
        let mut process = Process::start("runcast tail", command);
        let words = Arc::new(Mutex::new(Vec::new()));
        let (mut stdout, kept) = (process.child().stdout.take().unwrap(), words.clone());
        // Ends with the pipe.
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = stdout.read(&mut bytes) {
                kept.lock().unwrap().extend_from_slice(&bytes[..count]);
            }
        });
        Self { process, words }
    }

    fn words(&self) -> Vec<u8> {
        self.words.lock().unwrap().clone()
    }

    async fn until_words(&self, words: &str) {
        eventually(&format!("{words:?} is written"), DEADLINE, async || {
            (self.words() == words.as_bytes()).then_some(())
        })
        .await;
    }

    async fn until_note(&self, note: &str) {
        eventually(&format!("{note:?} is said"), DEADLINE, async || {
            self.process.log().contains(note).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn tail_follows_across_a_killed_fanout_and_writes_the_very_bytes() {
    let redis = Redis::start().await;
    let mut fanout = Fanout::start_with(&redis.url(), &[("RUNCAST__SSE__RETRY", "100ms")]).await;
    let mut tail = Tail::start(&fanout, &redis, &["run-1"]);
    tail.until_note("nothing is known of run run-1 yet").await;

    let mut sidecar = Sidecar::new(&redis.url(), "run-1", "var-1").pipe();
    let mut agent = sidecar.child().stdin.take().unwrap();
    let first = "Hello \u{1b}[31mred\u{1b}[0m\r\n\n  trailing  \n🛰️ half a li";
    agent.write_all(first.as_bytes()).unwrap();
    tail.until_words(first).await;

    fanout.kill9();
    tail.until_note("reconnecting in").await;
    let second = "ne, said while nobody could hear\n\u{2028}";
    agent.write_all(second.as_bytes()).unwrap();
    fanout.restart().await;
    tail.until_words(&format!("{first}{second}")).await;

    let third = "and the end, without a newline";
    agent.write_all(third.as_bytes()).unwrap();
    drop(agent);
    assert_eq!(tail.process.wait(DEADLINE).await.code(), Some(0));
    tail.until_words(&format!("{first}{second}{third}")).await;
    assert!(tail.process.log().contains("run run-1 succeeded"), "{}", tail.process.log());
}

#[tokio::test]
async fn several_variations_are_told_apart_and_a_failure_is_the_exit_status() {
    let redis = Redis::start().await;
    let fanout = Fanout::start(&redis.url()).await;
    let mut tail = Tail::start(&fanout, &redis, &["run-1", "--variations", "good,bad"]);
    let sidecar = |variation| Sidecar::new(&redis.url(), "run-1", variation);
    let mut good = sidecar("good").exec(&["echo", "all is well"]);
    let mut bad = sidecar("bad").exec(&["sh", "-c", "echo oh; echo no >&2; exit 3"]);
    assert_eq!(good.wait(DEADLINE).await.code(), Some(0));
    assert_eq!(bad.wait(DEADLINE).await.code(), Some(3));
    assert_eq!(tail.process.wait(DEADLINE).await.code(), Some(1));

    let words = String::from_utf8(tail.words()).unwrap();
    let mut lines: Vec<_> = words.lines().map(|line| line.split_once(" | ").unwrap()).collect();
    lines.sort_unstable();
    assert_eq!(
        lines.iter().map(|(name, text)| (name.trim(), *text)).collect::<Vec<_>>(),
        [("bad", "oh"), ("good", "all is well")]
    );
    for note in ["failed, exit code 3", " no", "run run-1 failed: bad failed"] {
        tail.until_note(note).await;
    }
}

#[tokio::test]
async fn a_reader_that_has_had_enough_ends_tail_quietly() {
    let redis = Redis::start().await;
    let fanout = Fanout::start(&redis.url()).await;
    let mut sidecar = Sidecar::new(&redis.url(), "run-1", "var-1").exec(&["seq", "20000"]);
    assert!(sidecar.wait(DEADLINE).await.success());
    let mut command = runcast(&fanout, &redis, &["tail", "run-1", "--channels", "output"]);
    command.stdout(Stdio::piped());
    let mut tail = Process::start("runcast tail", command);
    let mut stdout = tail.child().stdout.take().unwrap();
    stdout.read_exact(&mut [0; 4]).unwrap();
    drop(stdout);
    assert_eq!(tail.wait(DEADLINE).await.code(), Some(0));
    assert_eq!(tail.log(), "");
}

#[tokio::test]
async fn what_the_fanout_refuses_is_said_at_once() {
    let redis = Redis::start().await;
    let fanout = Fanout::start(&redis.url()).await;
    let many: Vec<_> = (0..300).map(|number| format!("v{number}")).collect();
    let refused = output(runcast(&fanout, &redis, &["tail", "r", "--variations", &many.join(",")])).await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("variations"), "{refused:?}");
}

#[tokio::test]
async fn runs_are_listed_with_their_state() {
    let redis = Redis::start().await;
    let fanout = Fanout::start(&redis.url()).await;
    let nothing = output(runcast(&fanout, &redis, &["runs"])).await;
    assert!(String::from_utf8_lossy(&nothing.stdout).starts_with("No runs."), "{nothing:?}");

    let exec =
        |run, expected| Sidecar::new(&redis.url(), run, "var-1").set("RUNCAST__RUN__VARIATIONS", expected);
    assert!(exec("over", 1).exec(&["echo", "hi"]).wait(DEADLINE).await.success());
    assert!(exec("half", 2).exec(&["echo", "hi"]).wait(DEADLINE).await.success());
    let json = output(runcast(&fanout, &redis, &["runs", "-o", "json"])).await;
    let runs: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    let find = |id| runs.as_array().unwrap().iter().find(|run| run["run_id"] == id).unwrap();
    assert_eq!(find("over")["state"], "succeeded");
    assert_eq!(find("half")["state"], "running", "one of its two variations is still to come");
    assert_eq!(find("over")["variations"]["var-1"], "succeeded");
    assert!(find("over")["messages"].as_u64() >= Some(3), "output, running, succeeded");
    assert!(find("over")["last_activity"].as_str().unwrap().ends_with('Z'));
    assert_eq!(runs[0]["run_id"], "half", "the latest first");
    assert!(String::from_utf8_lossy(&json.stderr).contains("what Redis itself knows"), "{json:?}");
    let over = output(runcast(&fanout, &redis, &["runs", "--state", "succeeded", "--limit", "5"])).await;
    let table = String::from_utf8_lossy(&over.stdout);
    assert!(table.contains("over") && !table.contains("half"), "{table}");
}

#[tokio::test]
async fn doctor_says_what_is_wrong() {
    let mut redis = Redis::start().await;
    let fanout = Fanout::start(&redis.url()).await;
    let healthy = output(runcast(&fanout, &redis, &["doctor"])).await;
    let report = String::from_utf8_lossy(&healthy.stdout);
    assert_eq!(healthy.status.code(), Some(0), "{report}");
    assert!(report.contains("append to event") && !report.contains('✗'), "{report}");
    assert!(!report.contains('\u{1b}'), "no colours in a pipe");

    let no_admin = output(runcast(&fanout, &redis, &["doctor", "--admin", "http://127.0.0.1:1"])).await;
    assert_eq!(no_admin.status.code(), Some(1), "an admin port that was named must be there");

    let other = Redis::start().await;
    let strangers = output(runcast(&fanout, &other, &["doctor"])).await;
    let report = String::from_utf8_lossy(&strangers.stdout);
    assert_eq!(strangers.status.code(), Some(1), "{report}");
    assert!(report.contains("uses the same Redis"), "{report}");

    redis.kill9();
    let mut command = runcast(&fanout, &redis, &["doctor"]);
    command.env("RUNCAST_FANOUT", "http://127.0.0.1:1");
    let ill = output(command).await;
    let report = String::from_utf8_lossy(&ill.stdout);
    assert_eq!(ill.status.code(), Some(1), "{report}");
    assert!(
        report.contains("RUNCAST__REDIS__URL") && report.contains("http://127.0.0.1:1 cannot be reached"),
        "{report}"
    );
}
