//! How far a variation that is served has come: open, finishing, finished.

use runcast_protocol::Status;
use tokio::sync::watch;

use crate::session::Session;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    /// Messages are taken.
    Open,
    /// The terminal status is on its way.
    Finishing(Status),
    /// It is in Redis.
    Finished(Status),
}

/// The phase, and ways to move it. Requests ask for the end; the one task that [drives](Self::drive)
/// brings it about, so that a caller who hangs up leaves nothing half done.
#[derive(Debug)]
pub(crate) struct Phases(watch::Sender<Phase>);

impl Phases {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(Phase::Open))
    }

    /// Asks for the end with `status`. Whoever asks first decides how.
    pub(crate) fn begin_to_finish(&self, status: Status) {
        self.0.send_if_modified(|phase| {
            let open = *phase == Phase::Open;
            if open {
                *phase = Phase::Finishing(status);
            }
            open
        });
    }

    /// Asks for the end with `status` and waits for it; returns how it really ended.
    pub(crate) async fn finish(&self, status: Status) -> Status {
        self.begin_to_finish(status.clone());
        let mut phases = self.0.subscribe();
        loop {
            if let Phase::Finished(status) = &*phases.borrow_and_update() {
                return status.clone();
            }
            // The sender lives in self.
            let _ = phases.changed().await;
        }
    }

    /// Whether nobody asked for the end yet.
    pub(crate) fn is_open(&self) -> bool {
        *self.0.borrow() == Phase::Open
    }

    /// How the variation ended, if it has.
    pub(crate) fn finished(&self) -> Option<Status> {
        match &*self.0.borrow() {
            Phase::Finished(status) => Some(status.clone()),
            Phase::Open | Phase::Finishing(_) => None,
        }
    }

    /// Waits until it has ended.
    pub(crate) async fn until_finished(&self) {
        // The sender lives in self.
        let _ = self.0.subscribe().wait_for(|phase| matches!(phase, Phase::Finished(_))).await;
    }

    /// It had ended before we were there.
    pub(crate) fn found_finished(&self, status: Status) {
        self.0.send_replace(Phase::Finished(status));
    }

    /// Waits until the end is asked for, and brings it about.
    pub(crate) async fn drive(&self, session: &Session) {
        let mut phases = self.0.subscribe();
        loop {
            let phase = phases.borrow_and_update().clone();
            match phase {
                Phase::Open => drop(phases.changed().await),
                Phase::Finishing(status) => {
                    session.finish(status.clone()).await;
                    self.0.send_replace(Phase::Finished(status));
                    return;
                }
                Phase::Finished(_) => return,
            }
        }
    }
}
