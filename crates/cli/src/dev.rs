//! `runcast dev`: everything on this machine, and nothing left of it afterwards.

mod banner;
mod demo;
mod folder;
mod keyboard;
mod service;
mod stack;

use std::mem::take;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus};
use std::time::Duration;

use anyhow::Context;
use runcast_protocol::RunId;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::arguments::DevOptions;
use crate::dev::banner::say;
use crate::dev::folder::Folder;
use crate::dev::keyboard::Keyboard;
use crate::dev::stack::{Ended, Programs, Stack};

/// The run that an agent is attached to, unless it is named.
const ATTACHED: &str = "my-run";
/// A signal so soon after the first is the same one.
const ECHO: Duration = Duration::from_secs(1);

/// Runs the command.
///
/// # Errors
/// If something cannot be started, or ends by itself.
pub(crate) async fn run(options: DevOptions) -> anyhow::Result<ExitCode> {
    // Before anything is started, so that nothing is left behind.
    let mut stop = Stop::listen()?;
    let programs = Programs::find(options.demo)?;
    let folder = Folder::create()?;
    let mut stack = Stack::new(programs, folder.path(), options.verbose);
    let outcome = tokio::select! {
        biased;
        () = stop.asked() => Ok(()),
        outcome = up(&mut stack, options) => outcome,
    };
    say("Stopping.");
    tokio::select! {
        () = stack.stop() => {}
        () = stop.insisted() => stack.kill().await,
    }
    match outcome {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => {
            folder.keep_logs();
            Err(error)
        }
    }
}

/// Runs until something ends that should not.
async fn up(stack: &mut Stack, options: DevOptions) -> anyhow::Result<()> {
    let redis = stack.start_redis().await?;
    let archive = archive(options.archive.as_deref(), stack.folder())?;
    let ports = stack.start_services(&redis, options.port, &archive).await?;
    if !options.demo {
        let run = options.run.map_or_else(|| RunId::new(ATTACHED), Ok)?;
        banner::services(&run, &redis, &ports, stack.folder());
        return Err(stack.ended().await.into_error().await);
    }
    let mut keyboard = Keyboard::listen();
    let mut name = options.run;
    let mut first = true;
    loop {
        let run = name.take().map_or_else(demo::new_run, Ok)?;
        demo::start(stack, &run, &redis)?;
        banner::demo(&run, &redis, &ports, stack.folder());
        if take(&mut first) {
            banner::attach(&RunId::new(ATTACHED)?, &redis, &ports);
        }
        loop {
            match stack.ended().await {
                Ended { service, status } if service.is_agent() && is_expected(status) => {
                    if !stack.has_agents() {
                        break;
                    }
                }
                ended => return Err(ended.into_error().await),
            }
        }
        // Before anybody is asked to press it.
        keyboard.forget();
        banner::done(&run, keyboard.is_there());
        tokio::select! {
            () = keyboard.enter() => {}
            ended = stack.ended() => return Err(ended.into_error().await),
        }
    }
}

/// The folder of the archive: the one that is to be kept, else one that goes with all the rest.
fn archive(kept: Option<&Path>, folder: &Path) -> anyhow::Result<PathBuf> {
    let path = kept.map_or_else(|| folder.join("archive"), Path::to_owned);
    let made = std::fs::create_dir_all(&path).and_then(|()| path.canonicalize());
    made.with_context(|| format!("cannot make the archive's folder {}", path.display()))
}

/// Whether an agent came to its end, or was told to: `runcast send … stop` has it end by SIGTERM or SIGKILL,
/// which its sidecar passes on as shells do.
fn is_expected(status: ExitStatus) -> bool {
    status.success() || matches!(status.code(), Some(143 | 137))
}

/// The signals by which one is asked to stop.
struct Stop([Signal; 3]);

impl Stop {
    fn listen() -> std::io::Result<Self> {
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let [interrupt, terminate, hangup] = kinds.map(signal);
        Ok(Self([interrupt?, terminate?, hangup?]))
    }

    async fn asked(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }

    /// Whoever asks again does not want to wait. What comes at once is an echo: shells and tools signal
    /// the process and then its group.
    async fn insisted(&mut self) {
        let echoes = async {
            loop {
                self.asked().await;
            }
        };
        let _ = tokio::time::timeout(ECHO, echoes).await;
        self.asked().await;
    }
}
