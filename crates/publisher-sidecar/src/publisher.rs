//! The handle through which everything an agent says becomes a message of one of its lanes.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use runcast_bus::{Bus, Limits};
use runcast_protocol::{Channel, Lane, MessageType, Sequence};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use crate::config::{Config, bytes};
use crate::draft::Draft;
use crate::identity::Identity;
use crate::journal::{JournalError, Stats};
use crate::lane_queue::BatchLimits;
use crate::metrics::Metrics;
use crate::open_lane::OpenLane;
use crate::restore;
use crate::safety::{Promise, Safety};
use crate::store::Store;
use crate::writer::{Fenced, LaneWriter, Pace};

/// The channels on which a sidecar writes.
pub const CHANNELS: [Channel; 4] = [Channel::Output, Channel::Logs, Channel::Status, Channel::Metrics];

/// How long a variation's end waits for the last messages to be safe.
const SAFE_WITHIN: Duration = Duration::from_secs(1);

/// Takes messages for the variation's lanes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Publisher {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    identity: Identity,
    lanes: Vec<Arc<OpenLane>>,
    store: Store,
    promise: Promise,
    max_message: usize,
    metrics: Metrics,
}

/// The tasks that append, one for each lane. They stop when this is dropped.
#[derive(Debug)]
pub struct Writers {
    tasks: JoinSet<Fenced>,
    _safety: AbortOnDropHandle<()>,
}

/// Why a message was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The terminal status was given: nothing can come after it.
    #[error("this variation has finished: nothing can come after its terminal status")]
    Finished,
    /// It has more bytes than `message.max_bytes`.
    #[error("a message of {size} bytes is too large: at most {max} (message.max_bytes)")]
    TooLarge {
        /// Its size.
        size: usize,
        /// The limit.
        max: usize,
    },
    /// Sidecars do not write on its channel.
    #[error("messages of this type are not taken yet")]
    NoLane,
}

/// A message that was taken. It leaves by itself; its number can be asked for.
#[derive(Debug)]
pub struct Receipt {
    lane: Arc<OpenLane>,
    count: u64,
}

/// Where a lane stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LanePosition {
    /// Last number taken from the agent; none while the lane is not claimed.
    pub taken: Option<Sequence>,
    /// Last number known to be in Redis; none while the lane is not claimed.
    pub appended: Option<Sequence>,
    /// Messages not known to be in Redis.
    pub pending: u64,
    /// Bytes held.
    pub bytes: usize,
}

impl Publisher {
    /// Claims the variation's lanes and begins to append what is published, and what an earlier
    /// sidecar left in the journal. Does not wait for Redis.
    ///
    /// # Errors
    /// [`JournalError`] if there is a folder for the journal, but it cannot be used.
    pub fn start(bus: &Bus, config: &Config) -> Result<(Self, Writers), JournalError> {
        let identity = config.identity();
        let batch = BatchLimits { messages: config.batch.max_messages, bytes: bytes(config.batch.max_bytes) };
        let (store, queues) = restore::queues(config, &identity)?;
        let lanes: Vec<_> = queues
            .into_iter()
            .map(|(channel, queue)| {
                Arc::new(OpenLane::new(identity.lane(channel), batch, store.clone(), queue))
            })
            .collect();
        let metrics = Metrics::new(&lanes, &store);
        let limits = Limits { ttl: config.stream.ttl, entries: config.stream.max_entries };
        let pace = Pace {
            batch,
            linger: config.batch.linger,
            compress_above: bytes(config.batch.compress_above),
            forget_appended: config.journal.forget_appended,
            limits,
        };
        let mut tasks = JoinSet::new();
        for lane in &lanes {
            let (identity, lane, store) = (identity.clone(), lane.clone(), store.clone());
            let (run, bus, metrics) = (identity.run.clone(), bus.clone(), metrics.clone());
            tasks.spawn(LaneWriter { run, identity, lane, store, bus, pace, metrics }.run());
        }
        let (safety, promise) = Safety::new(bus, &identity.run, &lanes, limits.ttl);
        let safety = AbortOnDropHandle::new(tokio::spawn(safety.run()));
        let max_message = bytes(config.message.max_bytes);
        let shared = Shared { identity, lanes, store, promise, max_message, metrics };
        Ok((Self { shared: Arc::new(shared) }, Writers { tasks, _safety: safety }))
    }

    /// For whom this publishes.
    pub fn identity(&self) -> &Identity {
        &self.shared.identity
    }

    /// Takes a message. Waits only while its lane's queue is full, never for Redis itself.
    ///
    /// # Errors
    /// [`PublishError`] if it can never be taken.
    pub async fn publish(&self, draft: Draft) -> Result<Receipt, PublishError> {
        let (size, max) = (draft.size(), self.shared.max_message);
        if size > max {
            return Err(PublishError::TooLarge { size, max });
        }
        let lane = self.lane(draft.kind).ok_or(PublishError::NoLane)?;
        let message = draft.into_message(&self.shared.identity);
        let count = lane.push(message, size).await.map_err(|_| PublishError::Finished)?;
        self.shared.metrics.taken(lane.lane.channel);
        Ok(Receipt { lane: lane.clone(), count })
    }

    /// Waits until everything taken so far is in Redis.
    pub async fn flush(&self) {
        join_all(self.shared.lanes.iter().map(|lane| lane.flushed())).await;
    }

    /// Takes nothing more, and once all that was taken is in Redis, writes the terminal status.
    /// Returns when that is there too.
    pub async fn finish(&self, status: Draft) {
        self.close();
        // The status comes after every word, or viewers would leave before the end.
        self.flush().await;
        let size = status.size();
        if let Some(lane) = self.lane(MessageType::Status) {
            lane.push_last(status.into_message(&self.shared.identity), size);
        }
        self.flush().await;
        if self.shared.promise.can_be_kept() {
            // Normally milliseconds; past that, what is there is left to Redis.
            let _ = timeout(SAFE_WITHIN, self.secured()).await;
        }
    }

    /// Waits until everything taken so far is safe in Redis, not only there.
    async fn secured(&self) {
        join_all(self.shared.lanes.iter().map(|lane| lane.secured())).await;
    }

    /// How the journal stands, if there is one.
    pub fn journal(&self) -> Option<Stats> {
        self.shared.store.stats()
    }

    /// Takes nothing more.
    pub fn close(&self) {
        for lane in &self.shared.lanes {
            lane.close();
        }
    }

    /// Where each lane stands.
    pub fn positions(&self) -> impl Iterator<Item = (&Lane, LanePosition)> {
        self.shared.lanes.iter().map(|lane| (&lane.lane, lane.position()))
    }

    /// How many messages are not known to be in Redis.
    pub fn pending(&self) -> u64 {
        self.positions().map(|(_, position)| position.pending).sum()
    }

    /// Where the status lane stood before this sidecar, what an earlier one left in the journal
    /// included; waits for the claim.
    pub async fn inherited_status(&self) -> Sequence {
        match self.lane(MessageType::Status) {
            Some(lane) => lane.inherited().await,
            None => Sequence::NONE,
        }
    }

    fn lane(&self, kind: MessageType) -> Option<&Arc<OpenLane>> {
        self.shared.lanes.iter().find(|lane| lane.lane.channel == kind.channel())
    }
}

impl Receipt {
    /// The message's lane.
    pub fn lane(&self) -> &Lane {
        &self.lane.lane
    }

    /// Its number; waits until the lane was claimed.
    pub async fn number(&self) -> Sequence {
        self.lane.number(self.count).await
    }
}

impl Writers {
    /// Waits until another sidecar takes a lane over, which may never be.
    pub async fn fenced(&mut self) -> Fenced {
        match self.tasks.join_next().await {
            Some(Ok(fenced)) => fenced,
            // A writer that panicked can be trusted with nothing: stop as loudly as it did.
            Some(Err(error)) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            _ => std::future::pending().await,
        }
    }
}
