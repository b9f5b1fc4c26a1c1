//! The systems that are measured, as processes.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use runcast_testkit::Authority;
use rustix::process::{Pid, Signal, kill_process};
use rustls::ClientConfig;

use crate::line::trusting;
use crate::talker::Wire;
use crate::usage;

/// The module in a system's folder.
const NCHAN: &str = "usr/lib/nginx/modules/ngx_nchan_module.so";

/// What is measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum System {
    /// runcast-fanout.
    #[default]
    Ours,
    /// runcast-fanout over TLS.
    OursTls,
    /// A bare epoll loop.
    Floor,
    /// nginx with nchan.
    Nchan,
    /// nginx with nchan, its messages in Redis.
    NchanRedis,
    /// FastAPI, a subscription for each viewer.
    Python,
    /// FastAPI, one subscription.
    PythonShared,
}

impl System {
    /// Whether it is runcast-fanout.
    pub fn is_ours(self) -> bool {
        matches!(self, Self::Ours | Self::OursTls)
    }
}

/// Where programs are.
#[derive(Debug, Clone)]
pub struct Programs {
    /// runcast-fanout.
    pub fanout: PathBuf,
    /// The folder of `bench/baseline`.
    pub baseline: PathBuf,
    /// A Python that has what `requirements.txt` names.
    pub python: PathBuf,
}

/// A process that ends with this value.
#[derive(Debug)]
pub struct Process(Child);

/// A server that viewers connect to.
#[derive(Debug)]
pub struct Server {
    process: Process,
    /// Where viewers connect.
    pub port: u16,
    /// How it is published to …
    pub wire: Wire,
    /// … and at which port.
    pub publish_port: u16,
    /// How viewers connect, if over TLS.
    pub tls: Option<Arc<ClientConfig>>,
    _folder: Option<tempfile::TempDir>,
    _certificates: Option<Authority>,
}

impl Process {
    /// Starts a program; what it says goes nowhere, unless RUNCAST_BENCH_LOG is set.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(command: &mut Command) -> anyhow::Result<Self> {
        if std::env::var_os("RUNCAST_BENCH_LOG").is_none() {
            command.stdout(Stdio::null()).stderr(Stdio::null());
        }
        let child = command.stdin(Stdio::null()).spawn();
        Ok(Self(child.with_context(|| format!("{} cannot be started", command.get_program().display()))?))
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// kill -9.
    pub fn kill9(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }

    /// Waits until it listens on a loopback port.
    ///
    /// # Errors
    /// If it ends, or does not listen in time.
    pub fn until_it_listens(&mut self, port: u16) -> anyhow::Result<()> {
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if let Some(status) = self.0.try_wait()? {
                bail!("it ended with {status}; RUNCAST_BENCH_LOG=1 shows what it says");
            }
            anyhow::ensure!(begun.elapsed() < Duration::from_secs(20), "it does not listen on port {port}");
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // nginx takes its workers along only if it is asked to end.
        if let Some(pid) = i32::try_from(self.pid()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(2) {
            if !matches!(self.0.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.kill9();
    }
}

/// Starts a Redis of its own.
///
/// # Errors
/// If there is none, or it does not come up.
pub fn redis() -> anyhow::Result<(Process, u16)> {
    let port = runcast_testkit::free_port();
    let mut command = Command::new("redis-server");
    command.args(["--port", &port.to_string(), "--save", "", "--appendonly", "no", "--maxclients", "15000"]);
    command.args(["--tcp-backlog", "4096", "--client-output-buffer-limit", "pubsub", "256mb", "256mb", "60"]);
    let mut process = Process::start(&mut command)?;
    process.until_it_listens(port)?;
    Ok((process, port))
}

impl Server {
    /// Starts a system in front of the Redis at that port.
    ///
    /// # Errors
    /// If it is not here, or does not come up.
    pub fn start(system: System, programs: &Programs, redis: u16) -> anyhow::Result<Self> {
        Self::start_at(system, programs, redis, runcast_testkit::free_port())
    }

    /// The same on a given port.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub fn start_at(system: System, programs: &Programs, redis: u16, port: u16) -> anyhow::Result<Self> {
        let (mut wire, mut publish_port, mut folder) = (Wire::Message, redis, None);
        let (mut tls, mut certificates) = (None, None);
        let mut command = match system {
            System::Ours => {
                wire = Wire::Append;
                ours(programs, redis, port)
            }
            System::OursTls => {
                wire = Wire::Append;
                let authority = Authority::new();
                let mut command = ours(programs, redis, port);
                command.env("RUNCAST__TLS__CERTIFICATE_FILE", authority.cert_file());
                command.env("RUNCAST__TLS__KEY_FILE", authority.key_file());
                tls = Some(trusting(&authority.ca_file())?);
                certificates = Some(authority);
                command
            }
            System::Floor => {
                wire = Wire::Frame;
                let mut command = Command::new(std::env::current_exe()?);
                command.args(["floor", "--port", &port.to_string(), "--redis", &redis.to_string()]);
                command
            }
            System::Nchan | System::NchanRedis => {
                (wire, publish_port) = (Wire::Post, port);
                let temporary = tempfile::tempdir()?;
                let with_redis = (system == System::NchanRedis).then_some(redis);
                let command = nginx(&programs.baseline, temporary.path(), port, with_redis)?;
                folder = Some(temporary);
                command
            }
            System::Python | System::PythonShared => {
                let mut command = Command::new(&programs.python);
                command.arg(programs.baseline.join("server.py"));
                command.args(["--port", &port.to_string(), "--redis", &redis.to_string()]);
                command.args((system == System::PythonShared).then_some("--shared"));
                command
            }
        };
        let mut process = Process::start(&mut command)?;
        process.until_it_listens(port).with_context(|| format!("{system:?} does not come up"))?;
        if system == System::NchanRedis {
            // It says nothing of when it has found its Redis, and whoever comes before that hears nothing, ever.
            std::thread::sleep(Duration::from_secs(2));
        }
        Ok(Self { process, port, wire, publish_port, tls, _folder: folder, _certificates: certificates })
    }

    /// Its processes.
    pub fn pids(&self) -> Vec<u32> {
        let mut pids = vec![self.process.pid()];
        pids.extend(usage::children(self.process.pid()));
        pids
    }

    /// kill -9.
    pub fn kill9(&mut self) {
        self.process.kill9();
    }
}

/// Why a system cannot be measured here, and what to do; none if it can.
pub fn lacks(system: System, programs: &Programs) -> Option<String> {
    let there = |path: &Path, how: &str| (!path.exists()).then(|| format!("no {}: {how}", path.display()));
    match system {
        System::Floor => None,
        System::Ours | System::OursTls => there(&programs.fanout, "cargo build --release --bins"),
        System::Nchan | System::NchanRedis => {
            nchan().is_none().then(|| "no nginx with nchan: scripts/tools.sh bench".to_owned())
        }
        System::Python | System::PythonShared => there(&programs.python, "scripts/tools.sh bench"),
    }
}

fn ours(programs: &Programs, redis: u16, port: u16) -> Command {
    let mut command = Command::new(&programs.fanout);
    command.env("RUNCAST__REDIS__URL", format!("redis://127.0.0.1:{redis}"));
    command.env("RUNCAST__HTTP__LISTEN", format!("127.0.0.1:{port}"));
    command.env("RUNCAST__ADMIN__LISTEN", "127.0.0.1:0");
    command
}

/// The system's folder, or the one that `scripts/tools.sh bench` has unpacked it in.
fn nchan() -> Option<PathBuf> {
    let folders = [PathBuf::from("/"), std::env::current_dir().ok()?.join("target/tools/nginx")];
    folders.into_iter().find(|folder| folder.join(NCHAN).exists())
}

fn nginx(baseline: &Path, folder: &Path, port: u16, redis: Option<u16>) -> anyhow::Result<Command> {
    let workers = std::thread::available_parallelism()?.to_string();
    let upstream =
        redis.map(|port| format!("upstream redis {{ nchan_redis_server redis://127.0.0.1:{port}; }}"));
    let system = nchan().context("no nginx with nchan")?;
    let text = fs::read_to_string(baseline.join("nginx.conf"))?
        .replace("@module@", &system.join(NCHAN).display().to_string())
        .replace("@folder@", &folder.display().to_string())
        .replace("@workers@", &workers)
        .replace("@port@", &port.to_string())
        .replace("@upstream@", &upstream.unwrap_or_default())
        .replace("@store@", if redis.is_some() { "nchan_redis_pass redis;" } else { "" });
    let file = folder.join("nginx.conf");
    fs::write(&file, text)?;
    let mut command = Command::new(system.join("usr/sbin/nginx"));
    command.arg("-c").arg(file).arg("-p").arg(folder);
    Ok(command)
}
