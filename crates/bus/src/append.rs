//! Append: the one way into a lane.

use std::time::Duration;

use bytes::Bytes;
use fred::types::Value;
use runcast_protocol::{Lane, RunId, Sequence, keys};

use crate::{Bus, BusError, EntryId};

/// How long and how much a stream keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Time to live of the stream and the run's bookkeeping, renewed by each append and probe.
    pub ttl: Duration,
    /// Most entries of a stream, approximately; the oldest go first.
    pub entries: u64,
}

/// A batch to append, or, with an empty batch, a probe.
#[derive(Debug, Clone)]
pub struct Append {
    /// The run.
    pub run: RunId,
    /// The lane.
    pub lane: Lane,
    /// The writer's epoch as the claim returned it.
    pub epoch: u64,
    /// Sequence of the batch's first message.
    pub first: Sequence,
    /// Sequence of its last message.
    pub last: Sequence,
    /// The batch, as [`runcast_protocol::BatchWriter`] makes it.
    pub batch: Bytes,
    /// The last sequence in Redis, as far as the writer knows: normally the one before `first`. If it
    /// is lower, what lies between is declared to be gone.
    pub after: Sequence,
}

/// What the append script answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// The lane holds everything up to `last`.
    Done {
        /// The lane's last sequence.
        last: Sequence,
        /// The writer's epoch; a new one if the lane was claimed.
        epoch: u64,
    },
    /// Another writer claimed the lane with a higher epoch: this one must stop.
    Fenced {
        /// The other writer's epoch.
        epoch: u64,
    },
    /// Redis stands at `last`, and not where the writer took it to stand: cut anew from there.
    Rewind {
        /// The lane's last sequence.
        last: Sequence,
    },
}

/// The script that appends; its keys, arguments and reply stand at its head.
pub const APPEND_SCRIPT: &str = include_str!("lua/append.lua");

impl Bus {
    /// Appends a batch to its lane and publishes it, at once or not at all. Safe to repeat.
    ///
    /// # Errors
    /// [`BusError`] if Redis cannot be asked; the batch may or may not have been appended.
    pub async fn append(&self, append: Append, limits: Limits) -> Result<Appended, BusError> {
        let answer = self.append_from(append, limits, None).await?;
        answer.ok_or_else(|| BusError::Reply("append answered GONE, though nothing could be".into()))
    }

    /// The same for what may be one of the run's dead letters, which is deleted in the same step.
    /// None, and nothing appended, if it is not there any more.
    pub(crate) async fn append_from(
        &self,
        append: Append,
        limits: Limits,
        letter: Option<EntryId>,
    ) -> Result<Option<Appended>, BusError> {
        let kind = if append.lane.channel.has_one_writer() { "own" } else { "shared" };
        let publish = if self.is_sharded() { "SPUBLISH" } else { "PUBLISH" };
        let mut keys = vec![keys::stream(&append.run, &append.lane), keys::lanes(&append.run)];
        let mut args = vec![
            append.lane.to_string().into(),
            append.epoch.to_string().into(),
            append.first.to_string().into(),
            append.last.to_string().into(),
            append.batch.into(),
            kind.into(),
            limits.ttl.as_secs().max(1).to_string().into(),
            limits.entries.to_string().into(),
            publish.into(),
            append.after.to_string().into(),
        ];
        if let Some(id) = letter {
            keys.push(keys::dead(&append.run));
            args.push(id.to_string().into());
        }
        parse(self.append_script(keys, args).await?)
    }

    /// Claims a lane: returns its last sequence and a new epoch; older writers are fenced from now on.
    ///
    /// # Errors
    /// [`BusError`] if Redis cannot be asked.
    pub async fn claim(&self, run: &RunId, lane: &Lane, limits: Limits) -> Result<Appended, BusError> {
        self.probe(run, lane, 0, limits).await
    }

    /// Asks where a lane stands and renews its time to live; tells a writer that was fenced.
    ///
    /// # Errors
    /// [`BusError`] if Redis cannot be asked.
    pub async fn probe(
        &self,
        run: &RunId,
        lane: &Lane,
        epoch: u64,
        limits: Limits,
    ) -> Result<Appended, BusError> {
        let (run, lane, none, batch) = (run.clone(), lane.clone(), Sequence::NONE, Bytes::new());
        let append = Append { run, lane, epoch, first: none, last: none, batch, after: none };
        self.append(append, limits).await
    }
}

fn parse(reply: Value) -> Result<Option<Appended>, BusError> {
    let unexpected = |reply: &dyn std::fmt::Debug| BusError::Reply(format!("append answered {reply:?}"));
    let fields: Vec<String> = reply.clone().convert()?;
    let [outcome, last, epoch] = fields.as_slice() else { return Err(unexpected(&reply)) };
    let last =
        last.parse().ok().and_then(|last| Sequence::new(last).ok()).ok_or_else(|| unexpected(&reply))?;
    let epoch = epoch.parse().map_err(|_| unexpected(&reply))?;
    match outcome.as_str() {
        "OK" => Ok(Some(Appended::Done { last, epoch })),
        "FENCED" => Ok(Some(Appended::Fenced { epoch })),
        "REWIND" => Ok(Some(Appended::Rewind { last })),
        "GONE" => Ok(None),
        _ => Err(unexpected(&reply)),
    }
}
