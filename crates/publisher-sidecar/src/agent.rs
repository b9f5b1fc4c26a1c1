//! The agent's process, when the sidecar starts it.

use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal};
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use runcast_protocol::{State, Status};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::{Value, json};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::signal::unix::{Signal as Listener, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::processes::{Reach, Watch};
use crate::steering::{Answer, Cause, Effect, Order, Steering};

/// A running agent.
pub(crate) struct Agent {
    child: Child,
    /// The process group that it leads; on a terminal only itself.
    reach: Reach,
    /// Listening since before it was started, so that no signal to us is missed.
    terminate: Listener,
    interrupt: Listener,
}

/// How an agent ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Exit {
    status: ExitStatus,
    /// Who wanted that, if somebody did.
    cause: Option<Cause>,
    /// When we were told to stop by a signal before, if we were.
    told_at: Option<Instant>,
}

/// What the environment calls our way into Redis. An agent runs code that a model wrote, and everything it starts
/// inherits its environment: it has no use for the password, and must not print it by accident.
const OURS: &[u8] = b"RUNCAST__REDIS__";

fn is_ours(name: &OsStr) -> bool {
    name.as_encoded_bytes().get(..OURS.len()).is_some_and(|start| start.eq_ignore_ascii_case(OURS))
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
    /// Starts `command`, with our own standard input or, if we are to write `input`, with a pipe. The
    /// agent dies with the **thread** that calls this: call it from `main`'s.
    pub(crate) fn start(command: &[OsString], input: bool) -> Result<Self, NotStarted> {
        // A process of another group that reads the terminal would be stopped by the kernel.
        let leads_group = input || !io::stdin().is_terminal();
        let stdin = if input { Stdio::piped() } else { Stdio::inherit() };
        let [program, arguments @ ..] = command else {
            return Err(NotStarted { reason: "no command was given".into(), exit_code: 127 });
        };
        let mut command = Command::new(program);
        command.args(arguments).stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.kill_on_drop(true);
        for (name, _) in std::env::vars_os().filter(|(name, _)| is_ours(name)) {
            command.env_remove(name);
        }
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
        let reach = if leads_group { Reach::Group(pid) } else { Reach::Process(pid) };
        Ok(Self { child, reach, terminate, interrupt })
    }

    /// Its standard output and error; once.
    pub(crate) fn take_pipes(&mut self) -> Option<(ChildStdout, ChildStderr)> {
        Some((self.child.stdout.take()?, self.child.stderr.take()?))
    }

    /// Its standard input, if we are to write it; once.
    pub(crate) fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    /// Carries out orders and waits for the agent's end. SIGTERM and SIGINT to us are passed on to it;
    /// what is left of it `grace` after the first of them is killed.
    pub(crate) async fn run(
        &mut self,
        grace: Duration,
        mut orders: mpsc::Receiver<Order>,
        answer: impl Fn(Answer),
    ) -> io::Result<Exit> {
        let only = match self.reach {
            Reach::Group(_) => None,
            Reach::Process(pid) => Some(pid.as_raw_nonzero().get()),
        };
        let (mut steering, mut watch) = (Steering::new(only), Watch::new(self.reach));
        let (begun, mut status, mut told_at) = (Instant::now(), None, None);
        loop {
            if let Some(status) = status
                && steering.is_over()
            {
                return Ok(Exit { status, cause: steering.cause().cloned(), told_at });
            }
            let wake_at = steering.wake_at();
            let is_due = wake_at.is_some_and(|at| at <= begun.elapsed());
            let effects = tokio::select! {
                ended = self.child.wait(), if status.is_none() => {
                    let ended = ended?;
                    status = Some(ended);
                    watch.forget();
                    steering.exited(told(ended), begun.elapsed())
                }
                name = heard(&mut self.terminate, &mut self.interrupt) => {
                    told_at = told_at.or_else(|| Some(Instant::now()));
                    steering.told(name, self.to_pass_on(name), grace, begun.elapsed())
                }
                Some(order) = orders.recv() => {
                    watch.forget();
                    steering.order(order, begun.elapsed())
                }
                () = sleep_until(begun + wake_at.unwrap_or_default()), if wake_at.is_some() && !is_due => Vec::new(),
                () = std::future::ready(()), if is_due => {
                    if status.is_some() {
                        watch.forget();
                    }
                    steering.tick(begun.elapsed(), || watch.look())
                }
            };
            for effect in effects {
                match effect {
                    Effect::Signal(signal) => self.send(signal),
                    Effect::Answer(said) => answer(said),
                }
            }
        }
    }

    /// Ctrl-C in a terminal reaches the agent by itself when it is in our group.
    fn to_pass_on(&self, name: &str) -> Option<Signal> {
        match (name, self.reach) {
            (TERMINATE, _) => Some(Signal::TERM),
            (_, Reach::Group(_)) => Some(Signal::INT),
            (_, Reach::Process(_)) => None,
        }
    }

    /// Tells it to end, and kills what is left of it after `grace`.
    pub(crate) async fn stop(&mut self, grace: Duration) {
        self.send(Signal::TERM);
        // One that stands still gets it only when it goes on.
        self.send(Signal::CONT);
        if tokio::time::timeout(grace, self.child.wait()).await.is_err() {
            self.send(Signal::KILL);
            let _ = self.child.wait().await;
        }
    }

    fn send(&self, signal: Signal) {
        if signal == Signal::KILL {
            tracing::warn!("the agent did not end when told to; killing what is left of it");
        }
        let sent = match self.reach {
            Reach::Group(group) => kill_process_group(group, signal),
            Reach::Process(pid) => kill_process(pid, signal),
        };
        if let Err(error) = sent {
            tracing::debug!(%error, ?signal, "the agent is gone already");
        }
    }
}

const TERMINATE: &str = "SIGTERM";
const INTERRUPT: &str = "SIGINT";

/// Waits for a signal to us; returns its name.
async fn heard(terminate: &mut Listener, interrupt: &mut Listener) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => TERMINATE,
        _ = interrupt.recv() => INTERRUPT,
    }
}

/// What an answer says of an end.
fn told(status: ExitStatus) -> Value {
    match status.signal() {
        Some(signal) => json!({ "signal": signal }),
        None => json!({ "exit_code": status.code() }),
    }
}

impl NotStarted {
    fn new(program: &OsStr, error: &io::Error) -> Self {
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
    pub(crate) fn code(&self) -> u8 {
        let code = self.status.code().or_else(|| Some(128 + self.status.signal()?));
        code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
    }

    /// When we were told to stop by a signal, if that was before it ended.
    pub(crate) fn told_at(&self) -> Option<Instant> {
        self.told_at
    }

    /// The terminal status.
    pub(crate) fn status(&self) -> Status {
        let (exit_code, signal) = (self.status.code(), self.status.signal());
        let state = match (&self.cause, exit_code) {
            (Some(_), _) => State::Cancelled,
            (None, Some(0)) => State::Succeeded,
            (None, _) => State::Failed,
        };
        let reason = self.cause.as_ref().map(|cause| match cause {
            Cause::Signal(name) => format!("stopped by {name}"),
            Cause::Command(command, caller) => format!("stopped by {caller} (command {command})"),
        });
        Status { exit_code, signal, reason, ..Status::new(state) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_says_how_the_agent_ended() {
        let exit = |raw, cause| Exit { status: ExitStatus::from_raw(raw), cause, told_at: None };
        let told = Some(Cause::Signal("SIGTERM"));
        let said =
            |exit: Exit| (exit.code(), exit.status().state, exit.status().exit_code, exit.status().signal);
        assert_eq!(said(exit(0, None)), (0, State::Succeeded, Some(0), None));
        assert_eq!(said(exit(3 << 8, None)), (3, State::Failed, Some(3), None));
        assert_eq!(said(exit(9, None)), (137, State::Failed, None, Some(9)));
        assert_eq!(said(exit(15, told.clone())), (143, State::Cancelled, None, Some(15)));
        assert_eq!(said(exit(0, told)), (0, State::Cancelled, Some(0), None));
    }
}
