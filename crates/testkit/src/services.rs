//! The real services.

use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use crate::http::http_get;
use crate::process::{Process, binary, free_port};
use crate::viewer::Viewer;
use crate::wait::eventually;

const START: Duration = Duration::from_secs(20);

/// A real service with a port of its own and an admin port.
#[derive(Debug)]
struct Service {
    program: &'static str,
    /// The setting that says where it listens.
    listen: &'static str,
    redis_url: String,
    settings: Vec<(String, String)>,
    port: u16,
    admin: u16,
    process: Process,
}

impl Service {
    /// Starts one, and waits until it is ready.
    async fn start(
        program: &'static str,
        listen: &'static str,
        redis_url: &str,
        settings: &[(&str, &str)],
    ) -> Self {
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let settings: Vec<_> = settings.collect();
        let (port, admin) = (free_port(), free_port());
        let process = run(program, listen, redis_url, &settings, (port, admin));
        let mut service =
            Self { program, listen, redis_url: redis_url.to_owned(), settings, port, admin, process };
        service.until_ready().await;
        service
    }

    async fn until_ready(&mut self) {
        let (path, program) = (self.admin_url("/readyz"), self.program);
        eventually(&format!("{program} is ready"), START, async || {
            assert!(self.process.is_running(), "{program} ended: {}", self.process.log());
            http_get(&path, &[]).await.ok().filter(|(status, _, _)| *status == 200).map(drop)
        })
        .await;
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    fn admin_url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.admin)
    }

    /// kill -9, and starts it again on the same ports; returns at once.
    fn kill9_and_start(&mut self) {
        self.process.kill9();
        let ports = (self.port, self.admin);
        self.process = run(self.program, self.listen, &self.redis_url, &self.settings, ports);
    }
}

fn run(
    program: &str,
    listen: &str,
    redis_url: &str,
    settings: &[(String, String)],
    (port, admin): (u16, u16),
) -> Process {
    let mut command = Command::new(binary(program));
    command.env("RUNCAST__REDIS__URL", redis_url);
    command.env(listen, format!("127.0.0.1:{port}"));
    command.env("RUNCAST__ADMIN__LISTEN", format!("127.0.0.1:{admin}"));
    command.envs(settings.iter().cloned()).stdin(Stdio::null()).stdout(Stdio::null());
    Process::start(program, command)
}

/// A real runcast-fanout.
#[derive(Debug)]
pub struct Fanout(Service);

impl Fanout {
    /// Starts one with the defaults, and waits until it is ready.
    pub async fn start(redis_url: &str) -> Self {
        Self::start_with(redis_url, &[]).await
    }

    /// Starts one with settings such as `("RUNCAST__SSE__HEARTBEAT", "200ms")`.
    pub async fn start_with(redis_url: &str, settings: &[(&str, &str)]) -> Self {
        Self(Service::start("runcast-fanout", "RUNCAST__HTTP__LISTEN", redis_url, settings).await)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.0.port
    }

    /// Its address with a path.
    pub fn url(&self, path: &str) -> String {
        self.0.url(path)
    }

    /// Its admin port's address with a path.
    pub fn admin_url(&self, path: &str) -> String {
        self.0.admin_url(path)
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.0.process
    }

    /// A viewer of a run, not connected yet.
    pub fn viewer(&self, run: &str, query: &str) -> Viewer {
        Viewer::new(self.0.port, run, query)
    }

    /// kill -9.
    pub fn kill9(&mut self) {
        self.0.process.kill9();
    }

    /// Starts it again on the same ports, and waits until it is ready.
    pub async fn restart(&mut self) {
        self.0.kill9_and_start();
        self.0.until_ready().await;
    }
}

/// A real runcast-control.
#[derive(Debug)]
pub struct Control(Service);

impl Control {
    /// Starts one with the defaults, and waits until it is ready.
    pub async fn start(redis_url: &str) -> Self {
        Self::start_with(redis_url, &[]).await
    }

    /// Starts one with settings such as `("RUNCAST__LEASE__GRACE", "1s")`.
    pub async fn start_with(redis_url: &str, settings: &[(&str, &str)]) -> Self {
        Self(Service::start("runcast-control", "RUNCAST__GRPC__LISTEN", redis_url, settings).await)
    }

    /// Its address for gRPC.
    pub fn url(&self) -> String {
        self.0.url("")
    }

    /// Its admin port's address with a path.
    pub fn admin_url(&self, path: &str) -> String {
        self.0.admin_url(path)
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.0.process
    }

    /// kill -9, and starts it again on the same ports; returns at once.
    pub fn kill9_and_start(&mut self) {
        self.0.kill9_and_start();
    }
}

/// A real runcast-replay.
#[derive(Debug)]
pub struct Replay(Service);

impl Replay {
    /// Starts one with the defaults, and waits until it is ready.
    pub async fn start(redis_url: &str) -> Self {
        Self::start_with(redis_url, &[]).await
    }

    /// Starts one with settings such as `("RUNCAST__ARCHIVE__URL", "file:///tmp/archive")`.
    pub async fn start_with(redis_url: &str, settings: &[(&str, &str)]) -> Self {
        Self(Service::start("runcast-replay", "RUNCAST__HTTP__LISTEN", redis_url, settings).await)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.0.port
    }

    /// Its address with a path.
    pub fn url(&self, path: &str) -> String {
        self.0.url(path)
    }

    /// Its admin port's address with a path.
    pub fn admin_url(&self, path: &str) -> String {
        self.0.admin_url(path)
    }

    /// What it logged last.
    pub fn log(&self) -> String {
        self.0.process.log()
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.0.process
    }

    /// kill -9, and starts it again on the same ports; returns at once.
    pub fn kill9_and_start(&mut self) {
        self.0.kill9_and_start();
    }
}

/// How to start a real runcast-sidecar.
#[derive(Debug, Clone)]
pub struct Sidecar {
    redis_url: String,
    run: String,
    variation: String,
    settings: Vec<(String, String)>,
}

impl Sidecar {
    /// A sidecar of a run's variation.
    pub fn new(redis_url: &str, run: &str, variation: &str) -> Self {
        let (redis_url, run, variation) = (redis_url.to_owned(), run.to_owned(), variation.to_owned());
        Self { redis_url, run, variation, settings: Vec::new() }
    }

    /// Adds a setting such as `("RUNCAST__RUN__VARIATIONS", "3")`.
    #[must_use]
    pub fn set(mut self, name: &str, value: impl ToString) -> Self {
        self.settings.push((name.to_owned(), value.to_string()));
        self
    }

    /// `exec -- COMMAND…`; the agent's words are also on the process's stdout, which is discarded.
    pub fn exec<S: AsRef<std::ffi::OsStr>>(&self, agent: &[S]) -> Process {
        let mut command = self.command("exec");
        command.arg("--").args(agent).stdin(Stdio::null()).stdout(Stdio::null());
        Process::start(&format!("runcast-sidecar exec ({})", self.variation), command)
    }

    /// `pipe`, with a pipe as its stdin.
    pub fn pipe(&self) -> Process {
        let mut command = self.command("pipe");
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        Process::start(&format!("runcast-sidecar pipe ({})", self.variation), command)
    }

    /// `serve` on a Unix socket, and waits until it takes connections.
    pub async fn serve(&self, socket: &std::path::Path) -> Process {
        let mut command = self.command("serve");
        command.env("RUNCAST__API__SOCKET", socket).env("RUNCAST__API__LISTEN", "");
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let mut process = Process::start(&format!("runcast-sidecar serve ({})", self.variation), command);
        eventually("runcast-sidecar serves", START, async || {
            assert!(process.is_running(), "runcast-sidecar ended: {}", process.log());
            tokio::net::UnixStream::connect(socket).await.ok().map(drop)
        })
        .await;
        process
    }

    /// The command with a mode such as `exec`, for tests that want more of it.
    pub fn command(&self, mode: &str) -> Command {
        let mut command = Command::new(binary("runcast-sidecar"));
        command.args(["--run", &self.run, "--variation", &self.variation, mode]);
        command.env("RUNCAST__REDIS__URL", &self.redis_url).envs(self.settings.iter().cloned());
        command
    }
}

impl Process {
    /// SIGTERM.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }
}
