//! The handle through which everything an agent says becomes a message of one of its lanes.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use runcast_bus::{Bus, Limits, RedisConfig};
use runcast_protocol::{Channel, Lane, Message, MessageType, Sequence, Status};
use runcast_runtime::MessageTraces;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::breaker::BreakerState;
use crate::config::{Config, bytes};
use crate::dead_letters::DeadLetters;
use crate::draft::Draft;
use crate::error::Error;
use crate::gate::Gate;
use crate::held::unnumbered;
use crate::identity::Identity;
use crate::journal::{RecoveredLane, Stats};
use crate::lane_queue::BatchLimits;
use crate::metrics::Metrics;
use crate::open_lane::{LaneSettings, OpenLane};
use crate::quota::Quota;
use crate::redact::Redactor;
use crate::safety::Safety;
use crate::store::Stores;
use crate::trace;
use crate::writer::{Fenced, LaneWriter, Pace};

/// The channels on which a sidecar writes.
pub const CHANNELS: [Channel; 6] = Channel::ALL;

/// Takes messages for the variation's lanes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Publisher {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    identity: Identity,
    lanes: Vec<Arc<OpenLane>>,
    stores: Stores,
    gate: Gate,
    graves: Arc<DeadLetters>,
    /// The last status in the journal that an earlier sidecar left.
    left_status: Option<Status>,
    max_message: usize,
    quota: Quota,
    redactor: Redactor,
    metrics: Metrics,
    traces: MessageTraces,
}

/// The tasks that append, one for each lane, and the one that finds out what is safe. They stop when this is dropped.
#[derive(Debug)]
pub struct Writers {
    tasks: JoinSet<Fenced>,
}

/// Why a message was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The terminal status was given: nothing can come after it.
    #[error("this variation has finished: nothing can come after its terminal status")]
    Finished,
    /// It has more bytes than `message.max_bytes`, or than the journal can hold for its channel.
    #[error(
        "a message of {size} bytes is too large: at most {max} (message.max_bytes, or its channel's share of journal.max_bytes)"
    )]
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
    /// Last number known to be safe there; none while the lane is not claimed.
    pub safe: Option<Sequence>,
    /// Messages not known to be in Redis.
    pub pending: u64,
    /// Messages in Redis that are not known to be safe there.
    pub exposed: u64,
    /// Bytes held.
    pub bytes: usize,
}

impl Publisher {
    /// Claims the variation's lanes and begins to append what is published, and what an earlier sidecar
    /// left in the journal. Does not wait for Redis.
    ///
    /// # Errors
    /// [`Error`] if the journal cannot be used, or the patterns of secrets cannot.
    pub fn start(bus: &Bus, config: &Config) -> Result<(Self, Writers), Error> {
        let identity = config.identity();
        let rules = config.redact.rules(&config.redis)?;
        let (stores, mut left) = Stores::open(&config.journal, &identity)?;
        let (metrics, gate, exposed) = (Metrics::new(), Gate::new(), Arc::new(Notify::new()));
        let traces = MessageTraces::new("runcast-sidecar", &config.telemetry);
        let settings = LaneSettings {
            identity: identity.clone(),
            batch: BatchLimits { messages: config.batch.max_messages, bytes: bytes(config.batch.max_bytes) },
            max_bytes: bytes(config.queue.max_bytes),
            forget_appended: config.journal.forget_appended,
            exposed: exposed.clone(),
            metrics: metrics.clone(),
            traces: traces.clone(),
        };
        metrics.damaged.add(left.values().map(|lane| lane.lost).sum(), &[]);
        let left_status = left.get(&Channel::Status).and_then(|left| last_status(left, &stores));
        let open = |channel| {
            let (lane, settings) = (identity.lane(channel), settings.clone());
            Arc::new(OpenLane::new(lane, settings, stores.of(channel), left.remove(&channel)))
        };
        let lanes: Vec<_> = CHANNELS.into_iter().map(open).collect();
        Metrics::observe(&lanes, &stores, &gate);

        let limits = Limits { ttl: config.stream.ttl, entries: config.stream.max_entries };
        let pace = Pace {
            messages: config.batch.max_messages,
            linger: config.batch.linger,
            compress_above: bytes(config.batch.compress_above),
            limits,
        };
        let graves = Arc::new(DeadLetters {
            run: identity.run.clone(),
            bus: bus.clone(),
            gate: gate.clone(),
            limits,
            folder: config.journal.folder.clone(),
            metrics: metrics.clone(),
        });
        let mut tasks = JoinSet::new();
        for lane in &lanes {
            let (run, lane, bus) = (identity.run.clone(), lane.clone(), bus.clone());
            let (gate, graves, metrics) = (gate.clone(), graves.clone(), metrics.clone());
            // Somebody waits for the answer to a command: it leaves at once.
            let at_once = matches!(lane.lane.channel, Channel::Acks | Channel::Control);
            let pace = if at_once { Pace { linger: Duration::ZERO, ..pace } } else { pace };
            let traces = traces.clone();
            tasks.spawn(LaneWriter { run, lane, bus, gate, graves, pace, metrics, traces }.run());
        }
        let safety = Safety {
            run: identity.run.clone(),
            bus: Bus::connect(&RedisConfig { connections: 1, ..config.redis.clone() })?,
            gate: gate.clone(),
            lanes: lanes.clone(),
            exposed,
            ttl: limits.ttl,
        };
        tasks.spawn(safety.run());
        let max_message = bytes(config.message.max_bytes);
        let quota = Quota::new(config.quota, metrics.clone());
        let redactor = Redactor::new(rules, config.redact.hold, metrics.clone());
        let shared = Shared {
            identity,
            lanes,
            stores,
            gate,
            graves,
            left_status,
            max_message,
            quota,
            redactor,
            metrics,
            traces,
        };
        Ok((Self { shared: Arc::new(shared) }, Writers { tasks }))
    }

    /// For whom this publishes.
    pub fn identity(&self) -> &Identity {
        &self.shared.identity
    }

    /// Takes a message without its secrets: with a journal, it is on disk when this returns. Waits only while
    /// there is no room for it, or the agent says more than its quota; never for Redis itself.
    ///
    /// # Errors
    /// [`PublishError`] if it can never be taken.
    pub async fn publish(&self, draft: Draft) -> Result<Receipt, PublishError> {
        let lane = self.lane(draft.kind).ok_or(PublishError::NoLane)?;
        let mut draft = self.shared.redactor.draft(draft);
        let max = self.shared.max_message.min(lane.max_message());
        if draft.size() > max {
            return Err(PublishError::TooLarge { size: draft.size(), max });
        }
        self.shared.quota.admit(lane.lane.channel, draft.size()).await;
        let (traces, identity) = (&self.shared.traces, &self.shared.identity);
        let accepting = trace::accept(traces, &mut draft, identity, &lane.lane);
        let line = unnumbered(&draft.into_message(identity));
        let count = lane.push(line).await.map_err(|_| PublishError::Finished)?;
        drop(accepting);
        self.shared.metrics.taken(lane.lane.channel);
        Ok(Receipt { lane: lane.clone(), count })
    }

    /// Takes a message whose sender cannot be told that it is too large: it becomes a dead letter then.
    ///
    /// # Errors
    /// [`PublishError::Finished`] and [`PublishError::NoLane`].
    pub async fn publish_or_bury(&self, draft: Draft) -> Result<(), PublishError> {
        let draft = self.shared.redactor.draft(draft);
        // Hardly ever needed, and large only if it is needed.
        let copy = (draft.size() > self.max_message(draft.kind)).then(|| draft.clone());
        match (self.publish(draft).await, copy) {
            (Err(error @ PublishError::TooLarge { .. }), Some(draft)) => {
                let lane = self.shared.identity.lane(draft.kind.channel());
                let original = draft.into_message(&self.shared.identity).to_line();
                self.shared.graves.bury(&error.to_string(), &lane, None, original.into()).await;
                Ok(())
            }
            (published, _) => published.map(drop),
        }
    }

    fn max_message(&self, kind: MessageType) -> usize {
        let lane = self.lane(kind).map_or(usize::MAX, |lane| lane.max_message());
        self.shared.max_message.min(lane)
    }

    /// Waits until everything taken so far is in Redis.
    pub async fn flush(&self) {
        join_all(self.shared.lanes.iter().map(|lane| lane.flushed())).await;
    }

    /// Takes nothing more, and once all that was taken is in Redis, writes the terminal status.
    /// Returns when that is there too.
    pub async fn finish(&self, status: Draft) {
        let status = self.shared.redactor.draft(status);
        self.close();
        // The status comes after every word, or viewers would leave before the end.
        self.flush().await;
        if let Some(lane) = self.lane(MessageType::Status) {
            lane.push_last(unnumbered(&status.into_message(&self.shared.identity))).await;
        }
        self.flush().await;
    }

    /// Waits until everything taken so far is safe in Redis.
    pub async fn secured(&self) {
        join_all(self.shared.lanes.iter().map(|lane| lane.secured())).await;
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

    /// How many messages are in Redis and not known to be safe there.
    pub fn exposed(&self) -> u64 {
        self.positions().map(|(_, position)| position.exposed).sum()
    }

    /// How the journal stands; none without one.
    pub fn journal(&self) -> Option<Stats> {
        self.shared.stores.stats()
    }

    /// What the circuit breaker before Redis does.
    pub fn breaker(&self) -> BreakerState {
        self.shared.gate.state()
    }

    /// The last status that an earlier sidecar left in the journal, perhaps never sent.
    pub fn left_status(&self) -> Option<&Status> {
        self.shared.left_status.as_ref()
    }

    /// Where the lane of `kind` stood in Redis when it was claimed; waits for that. Nobody else writes it
    /// from then on.
    pub async fn claimed(&self, kind: MessageType) -> Sequence {
        match self.lane(kind) {
            Some(lane) => lane.claimed_at().await,
            None => Sequence::NONE,
        }
    }

    /// Waits until everything of `kind` that was taken so far is in Redis.
    pub async fn flush_kind(&self, kind: MessageType) {
        if let Some(lane) = self.lane(kind) {
            lane.flushed().await;
        }
    }

    /// The circuit breaker that all who ask Redis share.
    pub(crate) fn gate(&self) -> &Gate {
        &self.shared.gate
    }

    /// Takes secrets out of what does not go through [`Self::publish`].
    pub(crate) fn redactor(&self) -> &Redactor {
        &self.shared.redactor
    }

    /// What is counted.
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    fn lane(&self, kind: MessageType) -> Option<&Arc<OpenLane>> {
        self.shared.lanes.iter().find(|lane| lane.lane.channel == kind.channel())
    }
}

/// The last status among those that an earlier sidecar left.
fn last_status(left: &RecoveredLane, stores: &Stores) -> Option<Status> {
    let store = stores.of(Channel::Status)?;
    let mut newest_first = left.messages.iter().rev();
    newest_first
        .find_map(|recorded| Message::parse(&store.read(recorded.position).ok()?).ok()?.content.read().ok())
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
