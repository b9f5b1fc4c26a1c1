//! A run's dead letters in Redis, page by page.

use anyhow::{Context, ensure};
use jiff::Timestamp;
use runcast_bus::{Bus, DeadLetter, EntryId, RedisConfig};
use runcast_protocol::{Lane, RunId, Sequence, timestamp};
use serde::{Serialize, Serializer};

use crate::dead::{DOCTOR, LetterId};

/// Letters asked for at once; each may be megabytes.
const PAGE: u64 = 16;

/// What a list says of a letter.
#[derive(Debug, Serialize)]
pub(crate) struct Kept {
    #[serde(serialize_with = "as_text")]
    pub(crate) id: LetterId,
    #[serde(serialize_with = "wire_time")]
    pub(crate) time: Timestamp,
    pub(crate) lane: Lane,
    pub(crate) sequence: Option<Sequence>,
    /// Size of the original message.
    pub(crate) bytes: usize,
    pub(crate) reason: String,
}

impl Kept {
    pub(crate) fn new(id: LetterId, letter: DeadLetter) -> Self {
        let DeadLetter { reason, time, lane, sequence, original } = letter;
        Self { id, time, lane, sequence, bytes: original.len(), reason }
    }
}

/// Reads a run's dead letters, the oldest first.
pub(crate) struct Letters {
    bus: Bus,
    run: RunId,
    after: EntryId,
    done: bool,
}

impl Letters {
    /// # Errors
    /// If Redis cannot be asked, or knows no such run.
    pub(crate) async fn of(redis: &str, run: RunId) -> anyhow::Result<Self> {
        let bus = Bus::connect(&RedisConfig::new(redis))?;
        must_be_known(&bus, &run).await?;
        Ok(Self { bus, run, after: EntryId::default(), done: false })
    }

    /// The next ones; none at the end.
    ///
    /// # Errors
    /// If Redis cannot be asked.
    pub(crate) async fn next_page(&mut self) -> anyhow::Result<Option<Vec<(EntryId, DeadLetter)>>> {
        if self.done {
            return Ok(None);
        }
        let page = self.bus.dead_letters(&self.run, self.after, PAGE).await.context(DOCTOR)?;
        self.done = (page.len() as u64) < PAGE;
        self.after = page.last().map_or(self.after, |(id, _)| *id);
        Ok(Some(page))
    }

    pub(crate) fn into_bus(self) -> Bus {
        self.bus
    }
}

/// Refuses a run that Redis knows nothing of: more likely its name is wrong than that it has no dead
/// letters.
///
/// # Errors
/// That, or if Redis cannot be asked.
pub(crate) async fn must_be_known(bus: &Bus, run: &RunId) -> anyhow::Result<()> {
    let is_known = !bus.lanes(run).await.context(DOCTOR)?.is_empty()
        || !bus.dead_letters(run, EntryId::default(), 1).await.context(DOCTOR)?.is_empty();
    ensure!(is_known, "Redis knows no run {run}, or no longer; `runcast runs` lists those it knows");
    Ok(())
}

fn as_text<S: Serializer>(id: &LetterId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(id)
}

fn wire_time<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    timestamp::Text(*time).serialize(serializer)
}
