//! The agent's process, when the sidecar starts it.

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use runcast_protocol::{State, Status};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::signal::unix::{Signal as Listener, SignalKind, signal};
use tokio::time::{Instant, sleep_until};

/// A running agent.
pub(crate) struct Agent {
    child: Child,
    pid: Pid,
    /// Whether it leads a process group of its own.
    leads_group: bool,
    /// Listening since before it was started, so that no signal to us is missed.
    terminate: Listener,
    interrupt: Listener,
}

/// How an agent ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exit {
    status: ExitStatus,
    /// The signal by which we were told to stop before, and when, if we were.
    told: Option<(&'static str, Instant)>,
}

/// Why an agent could not be started.
#[derive(Debug)]
pub(crate) struct NotStarted {
    /// For people.
    pub(crate) reason: String,
    /// What a shell would exit with.
    pub(crate) exit_code: u8,
}

impl Agent {
    /// Starts `command`. The agent dies with the **thread** that calls this: call it from `main`'s.
    pub(crate) fn start(command: &[OsString]) -> Result<Self, NotStarted> {
        // A process of another group that reads the terminal would be stopped by the kernel.
        let leads_group = !io::stdin().is_terminal();
        let [program, arguments @ ..] = command else {
            return Err(NotStarted { reason: "no command was given".into(), exit_code: 127 });
        };
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::inherit()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.kill_on_drop(true);
        if leads_group {
            command.process_group(0);
        }
        runcast_runtime::child::tie_to_parent(&mut command);
        let listen = |kind| signal(kind).map_err(|error| NotStarted::new(program, &error));
        let (terminate, interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
        let child = command.spawn().map_err(|error| NotStarted::new(program, &error))?;
        let pid = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let pid = pid.ok_or_else(|| NotStarted::new(program, &io::Error::other("it has no process id")))?;
        tracing::debug!(pid = pid.as_raw_nonzero(), "agent started");
        Ok(Self { child, pid, leads_group, terminate, interrupt })
    }

    /// Its standard output and error; once.
    pub(crate) fn take_pipes(&mut self) -> Option<(ChildStdout, ChildStderr)> {
        Some((self.child.stdout.take()?, self.child.stderr.take()?))
    }

    /// Waits for its end. SIGTERM and SIGINT to us are passed on to it; what is left of it `grace`
    /// after the first of them is killed.
    pub(crate) async fn wait(&mut self, grace: Duration) -> io::Result<Exit> {
        let mut told = None;
        let mut kill_at = None;
        loop {
            let (signal, name) = tokio::select! {
                status = self.child.wait() => return Ok(Exit { status: status?, told }),
                _ = self.terminate.recv() => (Signal::TERM, "SIGTERM"),
                _ = self.interrupt.recv() => (Signal::INT, "SIGINT"),
                () = sleep_until(kill_at.unwrap_or_else(Instant::now)), if kill_at.is_some() => {
                    tracing::warn!(?grace, "the agent did not end when told to; killing it");
                    self.send(Signal::KILL);
                    kill_at = None;
                    continue;
                }
            };
            // Ctrl-C in a terminal reaches the agent by itself when it is in our group.
            if self.leads_group || signal != Signal::INT {
                self.send(signal);
            }
            told = told.or_else(|| Some((name, Instant::now())));
            kill_at = kill_at.or_else(|| Some(Instant::now() + grace));
        }
    }

    /// Tells it to end, and kills what is left of it after `grace`.
    pub(crate) async fn stop(&mut self, grace: Duration) {
        self.send(Signal::TERM);
        if tokio::time::timeout(grace, self.child.wait()).await.is_err() {
            self.send(Signal::KILL);
            let _ = self.child.wait().await;
        }
    }

    fn send(&self, signal: Signal) {
        let sent = if self.leads_group {
            kill_process_group(self.pid, signal)
        } else {
            kill_process(self.pid, signal)
        };
        if let Err(error) = sent {
            tracing::debug!(%error, ?signal, "the agent is gone already");
        }
    }
}

impl NotStarted {
    fn new(program: &std::ffi::OsStr, error: &io::Error) -> Self {
        let program = program.display();
        match error.kind() {
            io::ErrorKind::NotFound => {
                Self { reason: format!("cannot start {program}: command not found"), exit_code: 127 }
            }
            _ => Self { reason: format!("cannot start {program}: {error}"), exit_code: 126 },
        }
    }

    /// The terminal status.
    pub(crate) fn status(&self) -> Status {
        Status { exit_code: Some(self.exit_code.into()), ..Status::new(State::Failed) }.because(&self.reason)
    }
}

impl Exit {
    /// What we exit with: the agent's own code, or 128 + the signal that ended it, as shells do.
    pub(crate) fn code(self) -> u8 {
        let code = self.status.code().or_else(|| Some(128 + self.status.signal()?));
        code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
    }

    /// When we were told to stop, if that was before it ended.
    pub(crate) fn told_at(self) -> Option<Instant> {
        Some(self.told?.1)
    }

    /// The terminal status.
    pub(crate) fn status(self) -> Status {
        let (exit_code, signal) = (self.status.code(), self.status.signal());
        let state = match (self.told, exit_code) {
            (Some(_), _) => State::Cancelled,
            (None, Some(0)) => State::Succeeded,
            (None, _) => State::Failed,
        };
        let reason = self.told.map(|(name, _)| format!("stopped by {name}"));
        Status { exit_code, signal, reason, ..Status::new(state) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_says_how_the_agent_ended() {
        let exit = |raw, told| Exit { status: ExitStatus::from_raw(raw), told };
        let told = Some(("SIGTERM", Instant::now()));
        let said =
            |exit: Exit| (exit.code(), exit.status().state, exit.status().exit_code, exit.status().signal);
        assert_eq!(said(exit(0, None)), (0, State::Succeeded, Some(0), None));
        assert_eq!(said(exit(3 << 8, None)), (3, State::Failed, Some(3), None));
        assert_eq!(said(exit(9, None)), (137, State::Failed, None, Some(9)));
        assert_eq!(said(exit(15, told)), (143, State::Cancelled, None, Some(15)));
        assert_eq!(said(exit(0, told)), (0, State::Cancelled, Some(0), None));
    }
}
