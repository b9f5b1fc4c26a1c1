//! `exec`: the sidecar starts the agent, and says what it says.

use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use runcast_bus::Bus;
use runcast_runtime::Shutdown;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use crate::agent::Agent;
use crate::api::Api;
use crate::api::serving::Listening;
use crate::commands::router::{ORDERS, Router};
use crate::config::{Config, bytes};
use crate::error::Error;
use crate::metadata::Metadata;
use crate::phase::Phases;
use crate::publisher::{Publisher, Writers};
use crate::relay::{ErrorReading, OutputReading, relay};
use crate::session::Session;
use crate::source::Source;
use crate::steering::Answer;
use crate::typist;

/// How long an agent may take to end when another sidecar took its place.
const FENCED_GRACE: Duration = Duration::from_secs(5);

/// Runs the agent to its end; returns its exit code.
///
/// # Errors
/// [`Error::Fenced`] if another sidecar took over; the agent was stopped.
pub(crate) async fn run(
    command: &[OsString],
    config: &Config,
    bus: &Bus,
    publisher: Publisher,
    writers: &mut Writers,
    shutdown: Shutdown,
) -> Result<u8, Error> {
    let listening = if config.exec.api { Some(Listening::bind(&config.api).await?) } else { None };
    let metadata = Metadata::from_environment();
    let session = Session::new(config, bus, publisher.clone(), metadata.clone());
    let deadline = config.shutdown.deadline;
    session.announce().await;

    let mut agent = match Agent::start(command, config.exec.input) {
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

    let desk = session.commands().desk().clone();
    // Until the agent has ended: it may speak while it comes to its end, too.
    let api = Api {
        publisher: publisher.clone(),
        desk: desk.clone(),
        lease: session.lease().clone(),
        phases: Arc::new(Phases::new()),
        shutdown: Shutdown::new(),
        max_message: bytes(config.message.max_bytes),
        ends_by_itself: true,
    };
    let serving = listening.map(|listening| listening.serve(&api, deadline / 5, &api.shutdown));
    // They end with this function; what they were about to say then is said by the session's end.
    let mut hands = JoinSet::new();
    let input = agent.take_stdin().map(|stdin| {
        let (texts, waiting) = mpsc::channel(typist::TEXTS);
        hands.spawn(typist::run(stdin, waiting, desk.clone()));
        texts
    });
    let (orders, waiting_orders) = mpsc::channel(ORDERS);
    session.commands().follow(bus, Router::Process { orders, input, api: config.exec.api });
    // Unbounded so that a journal without room never keeps a signal waiting; each command has two at most.
    let (answers, mut waiting_answers) = mpsc::unbounded_channel::<Answer>();
    let clerk = tokio::spawn(async move {
        while let Some(Answer { command, step, reason, result }) = waiting_answers.recv().await {
            desk.tell(&command, step, reason, result).await;
        }
    });
    let clerk = AbortOnDropHandle::new(clerk);

    let answer = move |said| drop(answers.send(said));
    let ended = tokio::select! {
        ended = agent.run(config.shutdown.agent_grace(), waiting_orders, answer) => ended,
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
    drop(serving);
    relays.shutdown().await;
    hands.shutdown().await;
    let finish = async {
        let end_by = end_by(Instant::now());
        // What became of the commands comes before the end, after which nothing is taken.
        let _ = timeout_at(end_by, clerk).await;
        session.finish_by(end_by, exit.status()).await;
    };
    tokio::select! {
        () = finish => Ok(exit.code()),
        fenced = writers.fenced() => Err(fenced.into()),
    }
}
