//! Commands to the agent: read from the run's control stream, handed over, answered; and letters from
//! other agents of the run.
//!
//! What is to be done is decided in [`inbox`], which is pure. The [`follower`] does the reading and the
//! handing over, the [`desk`] is where the rest of the sidecar finds what is there, and the [`router`]
//! knows who carries out what.

pub(crate) mod desk;
mod document;
mod follower;
pub mod inbox;
mod letters;
pub mod order;
pub(crate) mod router;

use std::sync::{Arc, Mutex, PoisonError};

use runcast_bus::Bus;
use runcast_protocol::State;
use tokio_util::task::AbortOnDropHandle;

use self::desk::Desk;
use self::follower::Follower;
use self::router::Router;
use crate::metrics::Metrics;
use crate::publisher::Publisher;

/// The commands of the variation, and the task that follows them. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Commands {
    desk: Arc<Desk>,
    follower: Arc<Mutex<Option<AbortOnDropHandle<()>>>>,
}

impl Commands {
    /// An empty desk, that nobody brings anything to yet.
    pub(crate) fn new(publisher: Publisher) -> Self {
        let desk = Arc::new(Desk::new(publisher));
        Metrics::observe_commands(&desk);
        Self { desk, follower: Arc::default() }
    }

    /// Begins to follow the control stream. Does not wait for Redis.
    pub(crate) fn follow(&self, bus: &Bus, router: Router) {
        let follower = Follower::new(bus, self.desk.clone(), router);
        let task = AbortOnDropHandle::new(tokio::spawn(follower.run()));
        *self.follower.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
    }

    /// Where the commands lie.
    pub(crate) fn desk(&self) -> &Arc<Desk> {
        &self.desk
    }

    /// Hands nothing over any more, and says of what is open that nothing more comes of it.
    pub(crate) async fn conclude(&self, state: State) {
        let follower = self.follower.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(follower) = follower {
            follower.abort();
            let _ = follower.await;
        }
        self.desk.conclude(state).await;
    }
}
