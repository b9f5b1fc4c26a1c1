//! What only whole processes show: signals, and children that end with their parent.
//!
//! Each test starts this very test program again, to run one of the `role_…` functions.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::{
    io::{BufRead as _, BufReader},
    os::unix::process::ExitStatusExt as _,
    process::{Child, ChildStdout, Command, Stdio},
    time::Duration,
};

use runcast_runtime::{Shutdown, child::tie_to_parent};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

const ROLE: &str = "PROCESS_TEST_ROLE";

struct Role {
    process: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Drop for Role {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Role {
    fn start(role: &str) -> Role {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", role, "--nocapture", "--test-threads=1"])
            .env(ROLE, role)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Role { process, lines }
    }

    /// What the role says after `word`, among the lines of the test runner.
    fn hear(&mut self, word: &str) -> String {
        let lines = self.lines.by_ref().map(|line| line.expect("readable"));
        let mut said = lines.filter_map(|line| Some(line.split_once(word)?.1.trim().to_owned()));
        said.next().unwrap_or_else(|| panic!("it ended without saying {word}"))
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }
}

fn plays(role: &str) -> bool {
    std::env::var(ROLE).is_ok_and(|playing| playing == role)
}

#[expect(clippy::print_stdout, reason = "the other process reads it")]
fn say(words: &str) {
    println!("{words}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn role_stubborn() {
    if plays("role_stubborn") {
        let shutdown = Shutdown::on_signals().unwrap();
        say("@listening");
        shutdown.triggered().await;
        say("@draining");
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
}

#[tokio::test]
async fn role_parent() {
    if plays("role_parent") {
        let mut command = tokio::process::Command::new("sleep");
        tie_to_parent(command.arg("60").stdout(Stdio::null()));
        let child = command.spawn().unwrap();
        say(&format!("@child {}", child.id().unwrap()));
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
}

#[test]
fn the_first_signal_drains_and_the_second_exits() {
    for (first, second, status) in
        [(Signal::TERM, Signal::TERM, 143), (Signal::INT, Signal::INT, 130), (Signal::TERM, Signal::INT, 130)]
    {
        let mut role = Role::start("role_stubborn");
        role.hear("@listening");
        role.signal(first);
        role.hear("@draining");
        role.signal(second);
        assert_eq!(role.process.wait().unwrap().code(), Some(status));
    }
}

#[test]
fn a_tied_child_dies_with_a_killed_parent() {
    let mut role = Role::start("role_parent");
    let child: i32 = role.hear("@child").parse().unwrap();
    // Readable once the process has ended, also if nobody has collected it yet.
    let child = pidfd_open(Pid::from_raw(child).unwrap(), PidfdFlags::empty()).unwrap();
    let ended = |within: i64| {
        let within = Timespec { tv_sec: within, tv_nsec: 0 };
        poll(&mut [PollFd::new(&child, PollFlags::IN)], Some(&within)).unwrap() == 1
    };
    assert!(!ended(0));
    role.process.kill().unwrap();
    assert_eq!(role.process.wait().unwrap().signal(), Some(9));
    assert!(ended(5), "the child outlived its parent");
}
