//! Real Redis servers.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::process::{Process, free_port};
use crate::resp::{Reply, command};
use crate::tls::Authority;
use crate::wait::eventually;

/// Name of the log in the server's folder.
const LOG: &str = "redis.log";

/// What servers that were built without TLS say when they are to speak it.
const WITHOUT_TLS: [&str; 2] = ["Failed finding TLS support", ">>> 'tls-port"];

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

    /// Also speaks TLS on `port`, as `authority` vouches for.
    #[must_use]
    pub fn tls(self, port: u16, authority: &Authority) -> Self {
        let path = |file: PathBuf| file.display().to_string();
        self.set("tls-port", &port.to_string())
            .set("tls-ca-cert-file", &path(authority.ca_file()))
            .set("tls-cert-file", &path(authority.cert_file()))
            .set("tls-key-file", &path(authority.key_file()))
            .set("tls-auth-clients", "no")
    }

    fn chosen_program(&self) -> PathBuf {
        self.program.clone().unwrap_or_else(program)
    }

    /// Starts it and waits until it answers.
    ///
    /// # Panics
    /// If it does not come up on any port.
    pub async fn start(self) -> Redis {
        self.start_if_able().await.expect("a server that can do what is asked of it")
    }

    /// The same; none if the server was built without TLS and is to speak it. Says so then, for the
    /// test cannot do much.
    ///
    /// # Panics
    /// If it does not come up on any port.
    pub async fn start_if_able(self) -> Option<Redis> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let port = self.port.unwrap_or_else(free_port);
        let mut redis = Redis { builder: self, port, folder, process: None };
        for _ in 0..10 {
            if redis.try_start().await {
                return Some(redis);
            }
            if WITHOUT_TLS.iter().any(|complaint| redis.complaints().contains(complaint)) {
                // Past the test harness, which shows nothing of a test that passes.
                let program = redis.builder.chosen_program();
                let _ = writeln!(std::io::stderr(), "SKIPPED: {} has no TLS", program.display());
                return None;
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

    /// A field of `INFO`; empty if there is no such field.
    ///
    /// # Panics
    /// If it cannot be reached.
    pub async fn info(&self, name: &str) -> String {
        let info = self.command(&["INFO", "everything"]).await.expect("redis answers").text();
        let mut lines = info.lines();
        lines
            .find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(':'))
            .unwrap_or_default()
            .to_owned()
    }

    /// The version of Redis that it is, or says it is compatible with: major and minor.
    ///
    /// # Panics
    /// If it cannot be reached.
    pub async fn version(&self) -> (u32, u32) {
        let version = self.info("redis_version").await;
        let mut numbers = version.split('.').map(|number| number.parse().expect("a version number"));
        (numbers.next().expect("major"), numbers.next().expect("minor"))
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

    /// That, and what it wrote before it had one.
    fn complaints(&self) -> String {
        self.log() + &self.process.as_ref().map(Process::log).unwrap_or_default()
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
        let mut command = Command::new(self.builder.chosen_program());
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
