//! Reading streams in pages.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use fred::types::Value;
use runcast_protocol::{Lane, RunId, Sequence, keys};

use crate::{Bus, BusError, LaneState, ParsedPage, lanes};

/// A stream entry's ID; the default comes before all entries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct EntryId(u64, u64);

impl EntryId {
    /// The ID to read after in order to begin with the message after `position`, in a stream whose
    /// entry IDs are sequences.
    pub fn after(position: Sequence) -> Self {
        Self(position.get(), 0)
    }

    /// The ID to read after in order to begin with the entry of this one.
    pub fn previous(self) -> Self {
        match self {
            Self(0, 0) => self,
            Self(time, 0) => Self(time - 1, u64::MAX),
            Self(time, count) => Self(time, count - 1),
        }
    }
}

impl EntryId {
    /// Its first number: milliseconds, or the sequence where that is what IDs are.
    pub fn time(self) -> u64 {
        self.0
    }

    /// The ID at the next multiple of `step` below, in a stream whose entry IDs are sequences.
    #[must_use]
    pub fn round_down(self, step: u64) -> Self {
        Self(self.0 - self.0 % step.max(1), 0)
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0, self.1)
    }
}

impl FromStr for EntryId {
    type Err = BusError;
    fn from_str(text: &str) -> Result<Self, BusError> {
        let parts = text
            .split_once('-')
            .and_then(|(time, count)| Some(Self(time.parse().ok()?, count.parse().ok()?)));
        parts.ok_or_else(|| BusError::Reply(format!("{text:?} is no entry ID")))
    }
}

/// One page of a stream, and where the lane stood at that instant.
#[derive(Debug, Clone)]
pub struct Page {
    /// Where the lane stands; none if Redis knows no such lane.
    pub lane: Option<LaneState>,
    /// The batches, oldest first, not looked into: in a shared stream, those of all its lanes.
    pub batches: Vec<Bytes>,
    /// ID of the page's last entry, to read on after; that which was asked for if the page is empty.
    pub end: EntryId,
    /// Whether the stream held nothing more after this page.
    pub is_last: bool,
}

impl Bus {
    /// Reads at most `count` entries of the stream that carries `lane`, those after `after`.
    ///
    /// # Errors
    /// [`BusError`] if Redis cannot be asked.
    pub async fn read(
        &self,
        run: &RunId,
        lane: &Lane,
        after: EntryId,
        count: usize,
    ) -> Result<Page, BusError> {
        let (state, entries) = self.read_entries(run, lane, &lane.to_string(), after, count).await?;
        let state: Option<String> =
            if matches!(state, Value::Boolean(_)) { None } else { state.convert()? };
        let lane = state.as_deref().and_then(lanes::parse);
        let (batches, end) = batches(entries, after)?;
        let is_last = batches.len() < count;
        Ok(Page { lane, batches, end, is_last })
    }

    /// The same for the readers of all the lanes that `lane`'s stream carries.
    ///
    /// # Errors
    /// [`BusError`] if Redis cannot be asked.
    pub async fn read_for_all(
        &self,
        run: &RunId,
        lane: &Lane,
        after: EntryId,
        count: usize,
    ) -> Result<ParsedPage, BusError> {
        if lane.channel.has_one_writer() {
            return Ok(ParsedPage::of(lane, self.read(run, lane, after, count).await?));
        }
        let (states, entries) = self.read_entries(run, lane, "", after, count).await?;
        let states: Vec<(String, String)> = states.convert()?;
        let states =
            states.iter().filter_map(|(lane, state)| Some((lane.parse().ok()?, lanes::parse(state)?)));
        let states = states.filter(|(known, _): &(Lane, _)| known.channel == lane.channel).collect();
        let (batches, end) = batches(entries, after)?;
        let is_last = batches.len() < count;
        Ok(ParsedPage::new(states, batches, end, is_last))
    }

    async fn read_entries(
        &self,
        run: &RunId,
        lane: &Lane,
        asked: &str,
        after: EntryId,
        count: usize,
    ) -> Result<(Value, Entries), BusError> {
        let keys = vec![keys::stream(run, lane), keys::lanes(run)];
        let args = vec![asked.into(), after.to_string().into(), count.to_string().into()];
        Ok(self.read_script(keys, args).await?.convert()?)
    }
}

/// As Redis replies: IDs, and fields with their values.
type Entries = Vec<(String, Vec<Bytes>)>;

/// What the entries hold, and the ID of the last; of one that follows `after` if there are none.
fn batches(entries: Entries, after: EntryId) -> Result<(Vec<Bytes>, EntryId), BusError> {
    let end = entries.last().map_or(Ok(after), |(id, _)| id.parse())?;
    // An entry is one field, `m`, and its value; anything else was not written by a sidecar.
    let batches = entries.into_iter().map(|(_, fields)| fields.into_iter().nth(1).unwrap_or_default());
    Ok((batches.collect(), end))
}
