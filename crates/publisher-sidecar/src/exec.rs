//! `exec`: the sidecar starts the agent, and says what it says.

use std::ffi::OsString;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::agent::Agent;
use crate::config::Config;
use crate::error::Error;
use crate::metadata::Metadata;
use crate::publisher::{Publisher, Writers};
use crate::relay::{ErrorReading, OutputReading, relay};
use crate::session::Session;
use crate::source::Source;

/// How long an agent may take to end when another sidecar took its place.
const FENCED_GRACE: Duration = Duration::from_secs(5);

/// Runs the agent to its end; returns its exit code.
///
/// # Errors
/// [`Error::Fenced`] if another sidecar took over; the agent was stopped.
pub(crate) async fn run(
    command: &[OsString],
    config: &Config,
    publisher: Publisher,
    writers: &mut Writers,
) -> Result<u8, Error> {
    let metadata = Metadata::from_environment();
    let session = Session::new(publisher.clone(), metadata.clone(), config.run.variations);
    let deadline = config.shutdown.deadline;
    session.announce().await;

    let mut agent = match Agent::start(command) {
        Ok(agent) => agent,
        Err(not_started) => {
            tracing::error!("{}", not_started.reason);
            session.finish_within(deadline, not_started.status()).await;
            return Ok(not_started.exit_code);
        }
    };
    let mut relays = JoinSet::new();
    if let Some((stdout, stderr)) = agent.take_pipes() {
        let output = OutputReading::new(config.logs.detect, &metadata);
        let errors = ErrorReading::new(&metadata);
        let hold = config.logs.hold;
        relays.spawn(relay(Source::pipe(stdout), tokio::io::stdout(), output, hold, publisher.clone()));
        relays.spawn(relay(Source::pipe(stderr), tokio::io::stderr(), errors, hold, publisher.clone()));
    }

    let ended = tokio::select! {
        ended = agent.wait(config.shutdown.agent_grace()) => ended,
        fenced = writers.fenced() => {
            agent.stop(FENCED_GRACE).await;
            return Err(fenced.into());
        }
    };
    let exit = ended.map_err(|source| Error::System { what: "cannot wait for the agent", source })?;

    // What it had written before it ended is still in the pipes, and what it had started may hold
    // them open.
    let until = Instant::now() + deadline;
    let drained = tokio::time::timeout_at(until, async { while relays.join_next().await.is_some() {} });
    tokio::select! {
        drained = drained => if drained.is_err() {
            tracing::warn!("a process that the agent left behind holds its output open; not waiting any longer");
        },
        fenced = writers.fenced() => return Err(fenced.into()),
    }
    relays.shutdown().await;
    tokio::select! {
        () = session.finish_within(deadline, exit.status()) => Ok(exit.code()),
        fenced = writers.fenced() => Err(fenced.into()),
    }
}
