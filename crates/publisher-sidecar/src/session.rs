//! A variation's life as its lanes tell it: running, and how it ended.

use runcast_bus::Bus;
use runcast_protocol::{State, Status};
use tokio::time::{Instant, timeout_at};

use crate::commands::Commands;
use crate::config::Config;
use crate::draft::Draft;
use crate::identity::Identity;
use crate::lease::Lease;
use crate::metadata::Metadata;
use crate::publisher::Publisher;

/// Says where the variation stands.
#[derive(Debug, Clone)]
pub(crate) struct Herald {
    publisher: Publisher,
    metadata: Metadata,
    variations: Option<u32>,
}

impl Herald {
    /// Says that the variation is at work.
    pub(crate) async fn announce(&self, reason: Option<String>) {
        let status = Status { reason, ..Status::new(State::Running) };
        if let Err(error) = self.publisher.publish(self.draft(status)).await {
            tracing::warn!(%error, "cannot say that the variation is running");
        }
    }

    pub(crate) fn identity(&self) -> &Identity {
        self.publisher.identity()
    }

    pub(crate) fn publisher(&self) -> &Publisher {
        &self.publisher
    }

    fn draft(&self, status: Status) -> Draft {
        let status = Status { variations: self.variations, ..status };
        Draft::status(&status, self.metadata.to_json())
    }
}

/// All that ends with the variation: its status, its lease, and the commands to it.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    herald: Herald,
    lease: Lease,
    commands: Commands,
}

impl Session {
    /// Takes the lease. Does not wait for Redis.
    pub(crate) fn new(config: &Config, bus: &Bus, publisher: Publisher, metadata: Metadata) -> Self {
        let variations = Some(config.run.variations).filter(|&count| count > 0);
        let commands = Commands::new(publisher.clone());
        let herald = Herald { publisher, metadata, variations };
        let lease = Lease::keep(bus, herald.clone(), config.lease.ttl);
        Self { herald, lease, commands }
    }

    /// The commands to the variation.
    pub(crate) fn commands(&self) -> &Commands {
        &self.commands
    }

    /// Its lease.
    pub(crate) fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Says that the variation is at work, once the lease is taken: one without the other would look like
    /// death.
    pub(crate) async fn announce(&self) {
        let reason = self.lease.taken().await;
        self.herald.announce(reason).await;
    }

    /// The same for a variation that was at work before: says so only if it was declared dead meanwhile.
    pub(crate) async fn announce_again(&self) {
        if let Some(reason) = self.lease.taken().await {
            self.herald.announce(Some(reason)).await;
        }
    }

    /// Says how the variation ended, after everything else; returns when it is all in Redis.
    pub(crate) async fn finish(&self, status: Status) {
        let status = self.herald.publisher.redactor().status(status);
        tracing::info!(state = %status.state, reason = status.reason, "finished");
        self.commands.conclude(status.state).await;
        self.herald.publisher.finish(self.herald.draft(status)).await;
        self.lease.release().await;
    }

    /// [`Self::finish`], and waits until all is safe. Past the `deadline`, says how much was left.
    pub(crate) async fn finish_by(&self, deadline: Instant, status: Status) {
        let finish = async {
            self.finish(status).await;
            self.herald.publisher.secured().await;
        };
        if timeout_at(deadline, finish).await.is_err() {
            tell_left(&self.herald.publisher);
        }
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
