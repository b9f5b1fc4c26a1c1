//! One child process.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anstyle::Style;
use anyhow::Context;
use runcast_runtime::child::tie_to_parent;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio_util::task::AbortOnDropHandle;

const LOG_FORMAT: &str = "RUNCAST__TELEMETRY__LOG_FORMAT";
/// A line is shown in pieces of so many bytes at the most.
const LONGEST_LINE: usize = 4096;
/// Lines of the log that an error shows, and how far back they are looked for.
const LAST_LINES: usize = 15;
const LAST_BYTES: usize = 8192;

/// A child process. It dies with us however we end, and its words go to a file.
#[derive(Debug)]
pub(crate) struct Service {
    name: String,
    agent: bool,
    child: Child,
    log: PathBuf,
    pumps: Vec<AbortOnDropHandle<()>>,
}

impl Service {
    /// Starts it; its log is `<folder>/<name>.log`, and with `verbose` also shown.
    ///
    /// # Errors
    /// If it cannot be started.
    pub(crate) fn start(
        name: &str,
        mut command: Command,
        folder: &Path,
        verbose: bool,
    ) -> anyhow::Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log);
        let file = file.with_context(|| format!("cannot write {}", log.display()))?;
        // Ctrl-C in a terminal goes to the whole process group: a group of its own lets us stop it
        // when its turn comes.
        command.process_group(0).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        tie_to_parent(&mut command);
        let mut child = command.spawn().with_context(|| {
            format!("cannot start {}", Path::new(command.as_std().get_program()).display())
        })?;
        let mut pumps = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            pumps.push(pump(stdout, file.try_clone()?, verbose.then(|| name.to_owned())));
        }
        if let Some(stderr) = child.stderr.take() {
            pumps.push(pump(stderr, file, verbose.then(|| name.to_owned())));
        }
        Ok(Self { name: name.to_owned(), agent: false, child, log, pumps })
    }

    /// Marks it as one that may end by itself.
    #[must_use]
    pub(crate) fn into_agent(mut self) -> Self {
        self.agent = true;
        self
    }

    pub(crate) fn is_agent(&self) -> bool {
        self.agent
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits until it ends by itself.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        // Waiting for a child of ours cannot fail.
        self.child.wait().await.unwrap_or_default()
    }

    /// SIGTERM; SIGKILL if it has not ended in time.
    pub(crate) async fn stop(&mut self, deadline: Duration) {
        self.signal(Signal::TERM);
        if tokio::time::timeout(deadline, self.child.wait()).await.is_err() {
            // It may have ended by itself in this instant.
            let _ = self.child.kill().await;
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // One that has ended needs no signal.
            let _ = kill_process(pid, signal);
        }
    }

    /// What to say when it ended with `status` although nobody asked it to.
    pub(crate) async fn obituary(self, status: ExitStatus) -> anyhow::Error {
        for pump in self.pumps {
            // Its last words. A child of its own may hold the pipe open.
            let _ = tokio::time::timeout(Duration::from_millis(500), pump).await;
        }
        let how = match (status.code(), status.signal()) {
            (Some(code), _) => format!("exit code {code}"),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => "no status".to_owned(),
        };
        let (name, log) = (self.name, self.log.display());
        anyhow::anyhow!("{name} ended with {how}; the end of {log}:\n{}", last_lines(&self.log))
    }
}

/// Copies what comes to the log, and shows it line by line.
fn pump(
    source: impl AsyncRead + Send + Unpin + 'static,
    mut log: File,
    shown_as: Option<String>,
) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        let mut source = BufReader::new(source);
        let mut line = Vec::new();
        while let Ok(bytes) = source.fill_buf().await
            && !bytes.is_empty()
        {
            let end = bytes.iter().position(|b| *b == b'\n').map_or(bytes.len(), |newline| newline + 1);
            // A full disk must not stop the service.
            let _ = log.write_all(&bytes[..end]);
            line.extend_from_slice(&bytes[..end]);
            source.consume(end);
            if line.ends_with(b"\n") || line.len() >= LONGEST_LINE {
                show(shown_as.as_deref(), &line);
                line.clear();
            }
        }
        show(shown_as.as_deref(), &line);
    }))
}

fn show(name: Option<&str>, line: &[u8]) {
    if let Some(name) = name
        && !line.is_empty()
    {
        let dim = Style::new().dimmed();
        let text = String::from_utf8_lossy(line);
        // Whether anybody reads it makes no difference to the service.
        let _ = writeln!(anstream::stderr(), "{dim}{name:8} | {}{dim:#}", text.trim_end());
    }
}

fn last_lines(log: &Path) -> String {
    let bytes = std::fs::read(log).unwrap_or_default();
    let end = &bytes[bytes.len().saturating_sub(LAST_BYTES)..];
    let text = String::from_utf8_lossy(end);
    let lines: Vec<_> = text.lines().map(|line| format!("  {line}")).collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
}

/// A command without the caller's own `RUNCAST__…` settings: what is meant for one service is an
/// unknown option to another. Telemetry is the same for all and stays.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let of_one_service = name
            .to_str()
            .is_some_and(|name| name.starts_with("RUNCAST__") && !name.starts_with("RUNCAST__TELEMETRY__"));
        if of_one_service {
            command.env_remove(name);
        }
    }
    // People read these logs, though no terminal writes them.
    if std::env::var_os(LOG_FORMAT).is_none() {
        command.env(LOG_FORMAT, "pretty");
    }
    command
}
