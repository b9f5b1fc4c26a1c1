//! A variation's life as its lanes tell it: running, and how it ended.

use runcast_protocol::{State, Status};
use tokio::time::{Instant, timeout_at};

use crate::draft::Draft;
use crate::metadata::Metadata;
use crate::publisher::Publisher;

/// Says where the variation stands.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    publisher: Publisher,
    metadata: Metadata,
    variations: Option<u32>,
}

impl Session {
    /// `variations` is how many the run has, 0 if that is not known.
    pub(crate) fn new(publisher: Publisher, metadata: Metadata, variations: u32) -> Self {
        Self { publisher, metadata, variations: Some(variations).filter(|&count| count > 0) }
    }

    /// Says that the variation is at work.
    pub(crate) async fn announce(&self) {
        if let Err(error) = self.publisher.publish(self.draft(Status::new(State::Running))).await {
            tracing::error!(%error, "cannot say that the variation is running");
        }
    }

    /// Says how the variation ended, after everything else; returns when it is all in Redis.
    pub(crate) async fn finish(&self, status: Status) {
        tracing::info!(state = %status.state, reason = status.reason, "finished");
        self.publisher.finish(self.draft(status)).await;
    }

    /// [`Self::finish`], and waits until all is safe. Past the `deadline`, says how much was left.
    pub(crate) async fn finish_by(&self, deadline: Instant, status: Status) {
        let finish = async {
            self.finish(status).await;
            self.publisher.secured().await;
        };
        if timeout_at(deadline, finish).await.is_err() {
            tell_left(&self.publisher);
        }
    }

    fn draft(&self, status: Status) -> Draft {
        let status = Status { variations: self.variations, ..status };
        Draft::status(&status, self.metadata.to_json())
    }
}

/// Says how many messages did not reach Redis in time.
pub(crate) fn tell_left(publisher: &Publisher) {
    let (left, exposed) = (publisher.pending(), publisher.exposed());
    let journal = publisher.journal().is_some();
    if left > 0 {
        tracing::error!(
            left,
            exposed,
            journal,
            "messages left that redis did not take in time (shutdown.deadline)"
        );
    } else {
        tracing::warn!(
            exposed,
            journal,
            "redis has all messages but did not say in time that they are safe there"
        );
    }
}
