//! Dead letters: messages that could never be stored, with the reason.

use std::time::Duration;

use bytes::Bytes;
use fred::interfaces::{KeysInterface, StreamsInterface};
use fred::types::Value;
use jiff::Timestamp;
use runcast_protocol::{BatchWriter, Json, Lane, Message, RunId, Sequence, keys, timestamp};

use crate::{Append, Appended, Bus, BusError, EntryId, Limits};

/// How long a lane is kept whose run Redis knows nothing of any more.
const UNKNOWN_TTL: Duration = Duration::from_secs(24 * 60 * 60);

/// Field of a requeued message that names the dead letter it was.
const REQUEUED: &str = "requeued";

/// A message that could not be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Why not.
    pub reason: String,
    /// When that was found out.
    pub time: Timestamp,
    /// The lane it was for.
    pub lane: Lane,
    /// Its number there; none if it never had one.
    pub sequence: Option<Sequence>,
    /// The message as it was: JSON on one line, or whatever it was instead.
    pub original: Bytes,
}

impl Bus {
    /// Adds a dead letter to the run's; returns its ID.
    ///
    /// # Errors
    /// [`BusError`] if Redis cannot be asked, or will not have it either.
    pub async fn bury(&self, run: &RunId, letter: &DeadLetter, limits: Limits) -> Result<EntryId, BusError> {
        let sequence = letter.sequence.map(|sequence| sequence.to_string()).unwrap_or_default();
        let fields: Vec<(&str, Value)> = vec![
            ("reason", letter.reason.as_str().into()),
            ("time", timestamp::Text(letter.time).to_string().into()),
            ("lane", letter.lane.to_string().into()),
            ("sequence", sequence.into()),
            ("original", letter.original.clone().into()),
        ];
        let limit = ("MAXLEN", "~", i64::try_from(limits.entries).unwrap_or(i64::MAX));
        let key = keys::dead(run);
        let id: String = self.client().await.xadd(&key, false, limit, "*", fields).await?;
        let ttl = i64::try_from(limits.ttl.as_secs().max(1)).unwrap_or(i64::MAX);
        let _: () = self.client().await.expire(&key, ttl, None).await?;
        id.parse()
    }

    /// At most `count` of a run's dead letters, oldest first, those after `after`.
    ///
    /// # Errors
    /// [`BusError`] if Redis cannot be asked.
    pub async fn dead_letters(
        &self,
        run: &RunId,
        after: EntryId,
        count: u64,
    ) -> Result<Vec<(EntryId, DeadLetter)>, BusError> {
        self.dead_range(run, &format!("({after}"), "+", count).await
    }

    /// One dead letter; none if there is none with this ID.
    ///
    /// # Errors
    /// [`BusError`] if Redis cannot be asked.
    pub async fn dead_letter(&self, run: &RunId, id: EntryId) -> Result<Option<DeadLetter>, BusError> {
        let found = self.dead_range(run, &id.to_string(), &id.to_string(), 1).await?;
        Ok(found.into_iter().next().map(|(_, letter)| letter))
    }

    /// Deletes a dead letter; returns whether it was there.
    ///
    /// # Errors
    /// [`BusError`] if Redis cannot be asked.
    pub async fn drop_dead_letter(&self, run: &RunId, id: EntryId) -> Result<bool, BusError> {
        let deleted: u64 = self.client().await.xdel(keys::dead(run), id.to_string()).await?;
        Ok(deleted > 0)
    }

    /// Appends a dead letter to its lane as the next message, with a number of its own, and deletes
    /// it in the same step; returns the number, or none if there is no such letter. Claims the lane: a
    /// sidecar that still writes it is fenced, and stops. What the stream keeps, and how long, stays.
    ///
    /// # Errors
    /// [`BusError`] if Redis cannot be asked, or if it is no message of its lane and stays where it is.
    /// If Redis cannot be reached, asking again is safe: it is never there twice.
    pub async fn requeue_dead_letter(&self, run: &RunId, id: EntryId) -> Result<Option<Sequence>, BusError> {
        let Some(letter) = self.dead_letter(run, id).await? else { return Ok(None) };
        let message = Message::parse(&letter.original);
        let mut message = message.map_err(|error| BusError::Rejected(error.to_string()))?;
        if message.run_id != *run || message.lane() != letter.lane {
            let (lane, of) = (message.lane(), &message.run_id);
            return Err(BusError::Rejected(format!("it is a message of {lane} of run {of}")));
        }
        let limits = self.present_limits(run).await?;
        let (last, epoch) = match self.claim(run, &letter.lane, limits).await? {
            Appended::Done { last, epoch } => (last, epoch),
            other => return Err(BusError::Reply(format!("a claim was answered with {other:?}"))),
        };
        let number = last.next();
        message.sequence = number;
        message.extra.retain(|(name, _)| name != REQUEUED);
        message.extra.push((REQUEUED.into(), Json::string(&id.to_string())));
        let mut batch = BatchWriter::default();
        batch.push(&message.to_line());
        let append = Append {
            run: run.clone(),
            lane: letter.lane,
            epoch,
            first: number,
            last: number,
            batch: batch.finish(usize::MAX),
            after: last,
        };
        match self.append_from(append, limits, Some(id)).await? {
            Some(Appended::Done { .. }) => Ok(Some(number)),
            None => Ok(None),
            Some(Appended::Fenced { .. } | Appended::Rewind { .. }) => {
                Err(BusError::Refused("somebody else writes the lane at the same time".into()))
            }
        }
    }

    /// Limits that change nothing: how the run's sidecars are configured is not known here.
    async fn present_limits(&self, run: &RunId) -> Result<Limits, BusError> {
        let seconds: i64 = self.client().await.ttl(keys::lanes(run)).await?;
        let ttl = u64::try_from(seconds).map_or(UNKNOWN_TTL, Duration::from_secs);
        Ok(Limits { ttl, entries: i64::MAX.unsigned_abs() })
    }

    async fn dead_range(
        &self,
        run: &RunId,
        start: &str,
        end: &str,
        count: u64,
    ) -> Result<Vec<(EntryId, DeadLetter)>, BusError> {
        type Entries = Vec<(String, Vec<Bytes>)>;
        let reply: Value = self.client().await.xrange(keys::dead(run), start, end, Some(count)).await?;
        let entries: Entries = if matches!(reply, Value::Null) { Vec::new() } else { reply.convert()? };
        let parsed = entries.into_iter().map(|(id, fields)| {
            let letter = parse(&fields).ok_or_else(|| BusError::Reply(format!("{id} is no dead letter")))?;
            Ok((id.parse()?, letter))
        });
        parsed.collect()
    }
}

fn parse(fields: &[Bytes]) -> Option<DeadLetter> {
    let field = |name: &str| {
        let mut pairs = fields.chunks_exact(2);
        pairs.find_map(|pair| (pair[0] == name.as_bytes()).then(|| pair[1].clone()))
    };
    let text = |name: &str| Some(String::from_utf8_lossy(&field(name)?).into_owned());
    let sequence = text("sequence")?;
    Some(DeadLetter {
        reason: text("reason")?,
        time: text("time")?.parse().ok()?,
        lane: text("lane")?.parse().ok()?,
        sequence: sequence.parse().ok().and_then(|number| Sequence::new(number).ok()),
        original: field("original")?,
    })
}
