//! `pipe`: the agent's output comes through our standard input.

use std::pin::pin;
use std::time::Duration;

use runcast_bus::Bus;
use runcast_protocol::{State, Status};
use runcast_runtime::Shutdown;
use tokio::time::{Instant, timeout};

use crate::commands::router::Router;
use crate::config::Config;
use crate::error::Error;
use crate::metadata::Metadata;
use crate::publisher::{Publisher, Writers};
use crate::relay::{OutputReading, relay};
use crate::session::Session;
use crate::source::Source;

/// How long after the signal standard input may take to end.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Publishes standard input to its end; returns the exit code.
///
/// # Errors
/// [`Error::Fenced`] if another sidecar took over.
pub(crate) async fn run(
    config: &Config,
    bus: &Bus,
    publisher: Publisher,
    writers: &mut Writers,
    shutdown: Shutdown,
) -> Result<u8, Error> {
    let metadata = Metadata::from_environment();
    let session = Session::new(config, bus, publisher.clone(), metadata.clone());
    let deadline = config.shutdown.deadline;
    session.announce().await;
    session.commands().follow(bus, Router::Nowhere);

    let source =
        Source::stdin().map_err(|source| Error::System { what: "cannot read standard input", source })?;
    let output = OutputReading::new(config.logs.detect, &metadata);
    let mut relay = pin!(relay(source, tokio::io::stdout(), output, config.logs.hold, publisher));
    let status = tokio::select! {
        () = &mut relay => Status::new(State::Succeeded),
        () = shutdown.triggered() => {
            // Whoever feeds us was most likely stopped too, and has a last word.
            let _ = timeout(LAST_WORDS.min(deadline / 5), relay).await;
            Status::new(State::Cancelled).because("stopped by a signal")
        }
        fenced = writers.fenced() => return Err(fenced.into()),
    };
    tokio::select! {
        () = session.finish_by(Instant::now() + deadline, status) => Ok(0),
        fenced = writers.fenced() => Err(fenced.into()),
    }
}
