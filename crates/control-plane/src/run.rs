//! One run, as one replica of the control-plane knows and steers it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use runcast_bus::{Bus, BusError, Decided, Decision, Durability, Limits};
use runcast_protocol::{BatchWriter, Channel, Json, Lane, Message, MessageType, RunId, Sequence, timestamp};
use tokio::sync::{Mutex, watch};

use crate::metrics::Metrics;
use crate::plan::Plan;
use crate::reader::Reader;
use crate::run_log::RunLog;
use crate::users::Users;

/// How long Redis may take to confirm that a decision is safe.
const CONFIRM: Duration = Duration::from_millis(500);

/// Others may decide at the same time; more often than this in a row is no coincidence.
const ATTEMPTS: usize = 100;

/// What a run needs from its service.
#[derive(Debug, Clone)]
pub struct RunContext {
    /// Commands to Redis.
    pub bus: Bus,
    /// Asks whether decisions are safe, on a connection of its own: that waits.
    pub fence: Bus,
    /// What the run's streams keep.
    pub limits: Limits,
    /// Where decisions are counted.
    pub metrics: Metrics,
    /// The Redis users of runs, where they are ours to manage.
    pub users: Option<Users>,
}

/// A run: its log, and decisions on it.
#[derive(Debug)]
pub struct Run {
    /// Which.
    pub id: RunId,
    context: RunContext,
    reader: Mutex<Reader>,
    /// How many times it was begun to read all that is new.
    begun: AtomicU64,
    /// The latest of these that succeeded.
    read: AtomicU64,
    version: watch::Sender<u64>,
}

/// Why a decision was not taken.
#[derive(Debug, thiserror::Error)]
pub enum NotDecided {
    /// Redis cannot be asked.
    #[error("redis: {0}")]
    Redis(#[from] BusError),
    /// It stands, but might not survive the loss of the server that took it.
    #[error("redis did not confirm that this is safe")]
    Unconfirmed,
    /// Others decided first, again and again.
    #[error("too many decide on this run at the same time")]
    Contended,
}

impl Run {
    /// Nothing is read yet.
    pub fn new(id: RunId, context: RunContext) -> Self {
        Self {
            id,
            context,
            reader: Mutex::default(),
            begun: AtomicU64::default(),
            read: AtomicU64::default(),
            version: watch::Sender::new(0),
        }
    }

    /// Reads all that is new: what was confirmed to anybody before the call is in the log after it. Many
    /// that ask at the same time share the round trip.
    ///
    /// # Errors
    /// [`BusError`] if Redis cannot be asked.
    pub async fn refresh(&self) -> Result<(), BusError> {
        let begun = self.begun.load(Ordering::SeqCst);
        let mut reader = self.reader.lock().await;
        if self.read.load(Ordering::SeqCst) > begun {
            // Who was before us in the queue began to read only after we had come.
            return Ok(());
        }
        self.catch_up(&mut reader).await
    }

    async fn catch_up(&self, reader: &mut Reader) -> Result<(), BusError> {
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        if reader.catch_up(&self.context.bus, &self.id).await? {
            self.changed();
        }
        self.read.store(number, Ordering::SeqCst);
        Ok(())
    }

    /// Looks at the log as far as it was read.
    pub async fn look<T>(&self, look: impl FnOnce(&RunLog) -> T) -> T {
        look(self.reader.lock().await.log())
    }

    /// Tells of every change from now on.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    fn changed(&self) {
        self.version.send_modify(|version| *version += 1);
    }

    /// Decides on the log as it is: plans, writes the plan if nothing happened meanwhile, and plans anew
    /// otherwise. No plan is a decision too. Returns once the decision is safe.
    ///
    /// # Errors
    /// What `plan` refuses with, or [`NotDecided`].
    pub async fn decide<E: From<NotDecided>>(
        &self,
        mut plan: impl FnMut(&RunLog) -> Result<Option<Plan>, E>,
    ) -> Result<(), E> {
        let mut reader = self.reader.lock().await;
        for _ in 0..ATTEMPTS {
            let Some(plan) = plan(reader.log())? else { return Ok(()) };
            let messages = self.number(&plan, reader.log().position(&plan.lane));
            let decision = self.decision(plan, &messages);
            match self.context.bus.decide(decision, self.context.limits).await.map_err(NotDecided::from)? {
                Decided::Done => {
                    let confirmed = self.confirm().await;
                    reader.apply(&messages);
                    self.changed();
                    return Ok(confirmed?);
                }
                Decided::Moved { .. } => {
                    self.context.metrics.retries.add(1, &[]);
                    self.catch_up(&mut reader).await.map_err(NotDecided::from)?;
                }
            }
        }
        Err(NotDecided::Contended.into())
    }

    fn number(&self, plan: &Plan, mut last: Sequence) -> Vec<Message> {
        let number = |(variation_id, content): &(_, Json)| {
            last = last.next();
            Message {
                timestamp: timestamp::now(),
                run_id: self.id.clone(),
                variation_id: Clone::clone(variation_id),
                sequence: last,
                kind: kind(&plan.lane),
                content: content.clone(),
                metadata: Json::empty_object(),
                writer: plan.lane.writer.clone(),
                extra: Vec::new(),
            }
        };
        plan.items.iter().map(number).collect()
    }

    fn decision(&self, plan: Plan, messages: &[Message]) -> Decision {
        let mut batch = BatchWriter::default();
        for message in messages {
            batch.push(&message.to_line());
        }
        let number = |message: Option<&Message>| message.map_or(Sequence::NONE, |message| message.sequence);
        let (first, last) = (number(messages.first()), number(messages.last()));
        let batch = batch.finish(usize::MAX);
        Decision { run: self.id.clone(), lane: plan.lane, first, last, batch, read: plan.read }
    }

    /// What was told to a caller must survive a failover.
    async fn confirm(&self) -> Result<(), NotDecided> {
        let durability = self.context.fence.durability(&self.id).await?;
        if durability == Durability::Aged {
            // No replica, no log to fsync: nothing could be waited for but time.
            return Ok(());
        }
        let fenced = self.context.fence.fence(&self.id, durability, self.context.limits.ttl, CONFIRM).await?;
        if fenced.confirmed { Ok(()) } else { Err(NotDecided::Unconfirmed) }
    }
}

fn kind(lane: &Lane) -> MessageType {
    debug_assert!(matches!(lane.channel, Channel::Control | Channel::Status));
    lane.channel.message_type()
}
