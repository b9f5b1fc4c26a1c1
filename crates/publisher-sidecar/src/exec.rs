//! `exec`: the sidecar starts the agent, and says what it says.

use std::ffi::OsString;
use std::time::Duration;

use runcast_runtime::Shutdown;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

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
    shutdown: Shutdown,
) -> Result<u8, Error> {
    let metadata = Metadata::from_environment();
    let session = Session::new(publisher.clone(), metadata.clone(), config.run.variations);
    let deadline = config.shutdown.deadline;
    session.announce().await;

    let mut agent = match Agent::start(command) {
        Ok(agent) => agent,
        Err(not_started) => {
            tracing::error!("{}", not_started.reason);
            session.finish_by(Instant::now() + deadline, not_started.status()).await;
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

    // Told to stop, everything together has the deadline; else each step has it for itself.
    let end_by = |since: Instant| exit.told_at().unwrap_or(since) + deadline;
    // What it had written before it ended is still in the pipes, and what it had started may hold
    // them open.
    let drained = timeout_at(end_by(Instant::now()) - deadline / 10, async {
        while relays.join_next().await.is_some() {}
    });
    let gave_up = tokio::select! {
        drained = drained => drained.is_err(),
        () = shutdown.triggered(), if exit.told_at().is_none() => true,
        fenced = writers.fenced() => return Err(fenced.into()),
    };
    if gave_up {
        // Held open by a process that it left behind, or not taken because Redis is away.
        tracing::warn!("the agent ended but its output did not; what is still in its pipes is not published");
    }
    relays.shutdown().await;
    tokio::select! {
        () = session.finish_by(end_by(Instant::now()), exit.status()) => Ok(exit.code()),
        fenced = writers.fenced() => Err(fenced.into()),
    }
}
