//! `runcast dev` as whole processes: it starts, serves, and leaves nothing behind.

#![allow(clippy::unwrap_used, reason = "this is test code")]

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use runcast_testkit::{Process, binary, eventually, free_port, http_get};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

const DEADLINE: Duration = Duration::from_secs(30);

struct Dev {
    process: Process,
    /// Where its folder is, apart from those of tests beside this one.
    temporary: Arc<TempDir>,
    stdout: BufReader<ChildStdout>,
    said: String,
}

impl Dev {
    /// Starts it with these arguments, and waits until it has said where everything is.
    fn start(arguments: &[&str]) -> Self {
        Self::start_in(Arc::new(tempfile::tempdir().unwrap()), arguments)
    }

    fn start_in(temporary: Arc<TempDir>, arguments: &[&str]) -> Self {
        // These are what it starts.
        let _ = (
            binary("runcast-fanout"),
            binary("runcast-replay"),
            binary("runcast-sidecar"),
            binary("sample-agent"),
        );
        let mut command = Command::new(env!("CARGO_BIN_EXE_runcast"));
        command.arg("dev").args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
        // What is meant for one service must not confuse another.
        command.env("RUNCAST__RUN__ID", "not-this-one").env("TMPDIR", temporary.path());
        let mut process = Process::start("runcast dev", command);
        let stdout = BufReader::new(process.child().stdout.take().unwrap());
        let mut dev = Self { process, temporary, stdout, said: String::new() };
        dev.hear("Ctrl-C");
        dev
    }

    /// Reads on to the line that has `word` in it.
    fn hear(&mut self, word: &str) {
        loop {
            let mut line = String::new();
            let count = self.stdout.read_line(&mut line).unwrap();
            assert!(count > 0, "it ended without saying {word}:\n{}\n{}", self.said, self.process.log());
            self.said += &line;
            if line.contains(word) {
                return;
            }
        }
    }

    /// What it said after `name`, e.g. `page`.
    fn place(&self, name: &str) -> String {
        let line = self.said.lines().find_map(|line| line.trim().strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name} in {}", self.said)).trim().to_owned()
    }

    fn folder(&self) -> PathBuf {
        self.place("logs").into()
    }

    /// Every process below it, named.
    fn family(&self) -> Vec<(u32, String)> {
        descendants(self.process.pid())
    }

    async fn until_agents_run(&self) -> Vec<(u32, String)> {
        eventually("three agents run", DEADLINE, async || {
            let family = self.family();
            (family.iter().filter(|(_, name)| name == "sample-agent").count() == 3).then_some(family)
        })
        .await
    }
}

/// Name, state and parent of a process, if it is there.
fn look_at(pid: u32) -> Option<(String, char, u32)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (name, rest) = stat.split_once('(')?.1.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    Some((name.to_owned(), fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

fn descendants(of: u32) -> Vec<(u32, String)> {
    let pids = std::fs::read_dir("/proc").unwrap().flatten();
    let pids: Vec<u32> = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    let children = pids.iter().filter_map(|&pid| {
        let (name, _, parent) = look_at(pid)?;
        (parent == of).then_some((pid, name))
    });
    let children: Vec<_> = children.collect();
    let below: Vec<_> = children.iter().flat_map(|(pid, _)| descendants(*pid)).collect();
    children.into_iter().chain(below).collect()
}

/// Waits until they have all ended. An orphan that nobody has collected yet counts as ended.
async fn until_gone(family: &[(u32, String)]) {
    for (pid, name) in family {
        eventually(&format!("{name} is gone"), DEADLINE, async || {
            look_at(*pid).is_none_or(|(_, state, _)| state == 'Z').then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn the_demo_is_served_and_ctrl_c_leaves_nothing_behind() {
    let mut dev = Dev::start(&["--demo", "--port", &free_port().to_string()]);
    let (status, headers, _) = http_get(&dev.place("page"), &[]).await.unwrap();
    assert!(status == 200 && headers["content-type"].to_str().unwrap().starts_with("text/html"));
    let policy = headers["content-security-policy"].to_str().unwrap();
    assert!(policy.contains(&dev.place("replay")), "the page may read what is past: {policy}");
    let run = dev.place("events").replace("/events", "");
    eventually("three variations are known", DEADLINE, async || {
        let (_, _, body) = http_get(&run, &[]).await.ok()?;
        let info: serde_json::Value = serde_json::from_slice(&body).ok()?;
        (info["variations"].as_object()?.len() == 3).then_some(())
    })
    .await;
    let (folder, family) = (dev.folder(), dev.until_agents_run().await);
    assert!(folder.is_dir() && family.len() == 10, "{family:?}");

    dev.process.signal(Signal::INT);
    assert_eq!(dev.process.wait(DEADLINE).await.code(), Some(0));
    until_gone(&family).await;
    assert!(!folder.exists());
}

#[tokio::test]
async fn kill_9_leaves_no_process_behind_and_the_next_start_tidies_up() {
    let mut dev = Dev::start(&["--demo", "--port", "0"]);
    let (folder, family) = (dev.folder(), dev.until_agents_run().await);
    dev.process.kill9();
    until_gone(&family).await;
    assert!(folder.exists(), "nobody was left to remove it");
    let _next = Dev::start_in(dev.temporary.clone(), &["--port", "0"]);
    assert!(!folder.exists());
}

#[tokio::test]
async fn a_service_that_dies_ends_it_with_the_reason() {
    let mut dev = Dev::start(&["--port", "0"]);
    let family = dev.family();
    let (redis, _) = family.iter().find(|(_, name)| name.starts_with("redis")).unwrap();
    kill_process(Pid::from_raw(i32::try_from(*redis).unwrap()).unwrap(), Signal::KILL).unwrap();
    assert_eq!(dev.process.wait(DEADLINE).await.code(), Some(1));
    until_gone(&family).await;
    eventually("the reason is told", DEADLINE, async || {
        let log = dev.process.log();
        (log.contains("redis ended with signal 9") && log.contains("Ready to accept connections"))
            .then_some(())
    })
    .await;
    assert!(dev.folder().join("redis.log").exists(), "the logs are kept for whoever wants to know why");
}

#[tokio::test]
async fn a_port_that_is_taken_is_not_fought_over() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let dev = Dev::start(&["--run", "mine", "--port", &port.to_string()]);
    assert!(dev.said.contains(&format!("Port {port} is taken")), "{}", dev.said);
    let attach = format!("RUNCAST__REDIS__URL={} ", dev.place("redis"));
    assert!(dev.said.contains(&attach) && dev.said.contains("runcast-sidecar --run mine"), "{}", dev.said);
    assert_eq!(http_get(&dev.place("page"), &[]).await.unwrap().0, 200);
}
