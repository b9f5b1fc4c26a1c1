//! Real processes, tied to the test.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::wait::eventually;

/// Lines of a process's stderr that are kept for when a test fails.
const KEPT_LINES: usize = 200;

/// Below the ports that the kernel gives to connections (32768 and up in Linux): one of those could take a
/// port between our look and the server that is to listen there. A cluster's servers take another one, 10,000 above.
const PORTS: std::ops::Range<u16> = 10_000..22_000;

/// A loopback port that was free a moment ago.
pub fn free_port() -> u16 {
    loop {
        let port = rand::random_range(PORTS);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// A binary of this workspace, next to the test's own.
///
/// # Panics
/// If it was not built.
pub fn binary(name: &str) -> PathBuf {
    // target/<profile>/deps/<test>, target/<profile>/examples/<program> or target/<profile>/<program>
    let own = std::env::current_exe().expect("the test's own path");
    let folder = own.parent().expect("a folder");
    let path =
        if folder.join(name).exists() { folder } else { folder.parent().expect("target folder") }.join(name);
    assert!(path.exists(), "{} is missing: run `cargo build --workspace --bins` first", path.display());
    path
}

/// A child process that ends with this value. Its stderr is kept, and printed if the test panics.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
}

impl Process {
    /// Starts a command. Its stdin and stdout are as the command says.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start(name: &str, mut command: Command) -> Self {
        command.stderr(Stdio::piped());
        runcast_runtime::child::tie_std_to_parent(&mut command);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        let log = Arc::new(Mutex::new(Vec::new()));
        let (stderr, kept) = (child.stderr.take().expect("piped"), log.clone());
        // Ends with the pipe.
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut kept = kept.lock().unwrap();
                if kept.len() == KEPT_LINES {
                    kept.remove(0);
                }
                kept.push(line);
            }
        });
        Self { name: name.to_owned(), child, log }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The child, for its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// What it wrote to stderr, the last lines.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    /// Sends a signal; nothing happens if it has ended.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = Pid::from_raw(i32::try_from(self.pid()).expect("a pid")) {
            let _ = kill_process(pid, signal);
        }
    }

    /// kill -9, and waits until it is gone.
    pub fn kill9(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits until it ends.
    ///
    /// # Panics
    /// If it does not within `deadline`.
    pub async fn wait(&mut self, deadline: Duration) -> ExitStatus {
        let name = self.name.clone();
        eventually(&format!("{name} ends"), deadline, async || self.child.try_wait().expect("a status")).await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill9();
        if std::thread::panicking() {
            eprintln!("--- {} ---\n{}", self.name, self.log());
        }
    }
}
