//! Real Redis servers.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::process::{Process, free_port};
use crate::resp::{Reply, command};
use crate::wait::eventually;

/// Name of the log in the server's folder.
const LOG: &str = "redis.log";

/// A real redis-server on a free port with a folder of its own.
#[derive(Debug)]
pub struct Redis {
    builder: RedisBuilder,
    port: u16,
    folder: TempDir,
    process: Option<Process>,
}

/// How a server is started.
#[derive(Debug, Clone, Default)]
pub struct RedisBuilder {
    arguments: Vec<String>,
    program: Option<PathBuf>,
    port: Option<u16>,
}

impl RedisBuilder {
    /// On this port, and no other.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Adds a configuration directive, e.g. `("appendonly", "yes")`.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.arguments.extend([format!("--{name}"), value.to_owned()]);
        self
    }

    /// With an append-only file that is fsynced at every write: what was acknowledged survives kill -9.
    #[must_use]
    pub fn appendonly(self) -> Self {
        self.set("appendonly", "yes").set("appendfsync", "always")
    }

    /// Another server program than `redis-server`.
    #[must_use]
    pub fn program(mut self, program: impl Into<PathBuf>) -> Self {
        self.program = Some(program.into());
        self
    }

    /// Starts it and waits until it answers.
    ///
    /// # Panics
    /// If it does not come up on any port.
    pub async fn start(self) -> Redis {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let port = self.port.unwrap_or_else(free_port);
        let mut redis = Redis { builder: self, port, folder, process: None };
        for _ in 0..10 {
            if redis.try_start().await {
                return redis;
            }
            redis.port = redis.builder.port.unwrap_or_else(free_port);
        }
        panic!("redis-server does not start:\n{}", redis.log());
    }
}

impl Redis {
    /// Starts a server that keeps nothing on disk.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// A server to be configured.
    pub fn builder() -> RedisBuilder {
        RedisBuilder::default().set("save", "")
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its address as the services take it.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Sends a command.
    ///
    /// # Errors
    /// If it cannot be reached.
    pub async fn command<A: AsRef<[u8]>>(&self, arguments: &[A]) -> anyhow::Result<Reply> {
        command(self.port, arguments).await
    }

    /// kill -9.
    pub fn kill9(&mut self) {
        self.process = None;
    }

    /// Starts it again on the same port, with the same folder.
    ///
    /// # Panics
    /// If it does not come up.
    pub async fn restart(&mut self) {
        assert!(self.try_start().await, "redis-server does not come back:\n{}", self.log());
    }

    /// Whether it came up; if not, somebody else may have taken the port.
    async fn try_start(&mut self) -> bool {
        self.process = None;
        self.process = Some(self.spawn());
        eventually("redis answers or ends", Duration::from_secs(20), async || {
            if !self.process.as_mut().expect("just started").is_running() {
                return Some(false);
            }
            // Also a server that refuses unauthenticated users is up.
            let answer = self.command(&["PING"]).await.ok()?;
            (!answer.text().starts_with("LOADING")).then_some(true)
        })
        .await
    }

    /// What it wrote to its log file.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join(LOG)).unwrap_or_default()
    }

    /// SIGSTOP: connections stay, nothing is answered.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        self.process.as_ref().expect("running").signal(signal);
    }

    fn spawn(&self) -> Process {
        let program = self.builder.program.clone().unwrap_or_else(program);
        let mut command = Command::new(program);
        command.args(["--port", &self.port.to_string(), "--dir"]).arg(self.folder.path());
        command.args(["--bind", "127.0.0.1", "--logfile", LOG]).args(&self.builder.arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        Process::start("redis-server", command)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.process = None;
        if std::thread::panicking() {
            eprintln!("--- redis-server on port {} ---\n{}", self.port, self.log());
        }
    }
}

/// `RUNCAST_REDIS_SERVER`, or what `make tools` put beside the build, or what is on the PATH.
pub(crate) fn program() -> PathBuf {
    if let Some(program) = std::env::var_os("RUNCAST_REDIS_SERVER") {
        return program.into();
    }
    let own = std::env::current_exe().expect("the test's own path");
    let tools = own.ancestors().map(|folder| folder.join("tools/redis-server"));
    tools.into_iter().find(|path| path.exists()).unwrap_or_else(|| "redis-server".into())
}
