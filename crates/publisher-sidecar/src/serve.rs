//! `serve`: the agent speaks to the sidecar over HTTP.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use runcast_bus::Bus;
use runcast_protocol::{MessageType, Sequence, Status};
use runcast_runtime::Shutdown;

use crate::api::Api;
use crate::api::serving::Listening;
use crate::commands::router::Router;
use crate::config::{Config, bytes};
use crate::error::Error;
use crate::metadata::Metadata;
use crate::phase::Phases;
use crate::publisher::{Publisher, Writers};
use crate::session::{Session, tell_left};
use crate::standing::last_status;

/// How often it is asked again what Redis knows, when it cannot tell.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Serves the local API until `shutdown`; returns the exit code.
///
/// # Errors
/// [`Error`] if a socket cannot be bound, or another sidecar took over.
pub(crate) async fn run(
    config: &Config,
    bus: &Bus,
    publisher: Publisher,
    writers: &mut Writers,
    shutdown: Shutdown,
) -> Result<u8, Error> {
    let listening = Listening::bind(&config.api).await?;
    let phases = Arc::new(Phases::new());
    let session = Session::new(config, bus, publisher.clone(), Metadata::from_environment());
    session.commands().follow(bus, Router::Agent);
    let api = Api {
        publisher: publisher.clone(),
        desk: session.commands().desk().clone(),
        lease: session.lease().clone(),
        phases: phases.clone(),
        shutdown: shutdown.clone(),
        max_message: bytes(config.message.max_bytes),
        ends_by_itself: false,
    };
    let deadline = config.shutdown.deadline;
    let mut serving = listening.serve(&api, deadline / 5, &shutdown);
    let mut life = pin!(async {
        take_up(bus, &publisher, &session, &phases).await;
        phases.drive(&session).await;
    });
    tokio::select! {
        () = async { (&mut life).await; shutdown.triggered().await } => {}
        () = shutdown.triggered() => {}
        fenced = writers.fenced() => return Err(fenced.into()),
    }

    let end = async {
        serving.ended().await;
        match config.serve.unfinished {
            None if phases.is_open() => {
                publisher.flush().await;
                return publisher.secured().await;
            }
            None => {}
            Some(state) => phases.begin_to_finish(
                Status::new(state).because("the sidecar was stopped before the agent finished"),
            ),
        }
        if phases.finished().is_none() {
            life.await;
        }
        publisher.secured().await;
    };
    tokio::select! {
        ended = tokio::time::timeout(deadline, end) => {
            if ended.is_err() {
                tell_left(&publisher);
            }
            Ok(0)
        }
        fenced = writers.fenced() => Err(fenced.into()),
    }
}

/// Says that the variation is running, unless an earlier sidecar said that already, or that it ended.
async fn take_up(bus: &Bus, publisher: &Publisher, session: &Session, phases: &Phases) {
    let stood = publisher.claimed(MessageType::Status).await;
    if stood == Sequence::NONE && publisher.left_status().is_none() {
        session.announce().await;
        return;
    }
    loop {
        // What is in the journal is later than what is in Redis, or the same.
        let last = match publisher.left_status() {
            Some(status) => Ok(Some(status.clone())),
            None => last_status(bus, publisher.identity()).await,
        };
        match last {
            Ok(Some(status)) if status.state.is_terminal() => {
                tracing::warn!(state = %status.state, "this variation has finished before; taking nothing more");
                publisher.close();
                phases.found_finished(status);
                return session.lease().release().await;
            }
            Ok(Some(_)) => {
                tracing::info!("going on with a run that an earlier sidecar began");
                return session.announce_again().await;
            }
            Ok(None) => return session.announce().await,
            Err(error) => {
                tracing::warn!(%error, "cannot see how far this variation has come; asking again");
                tokio::time::sleep(ASK_AGAIN).await;
            }
        }
    }
}
