//! Snapshots: what an output lane said so far as joined text, so that who joins late need not read every
//! message. Written by one service, read by another.

use bytes::Bytes;
use fred::interfaces::StreamsInterface;
use fred::types::Value;
use runcast_protocol::{Lane, RunId, Sequence, keys, snapshot_text};

use crate::{Bus, BusError, EntryId};

/// Most entries of a lane's snapshots, approximately: some gigabytes of text. What lies before the first
/// of them is read from the lane itself.
const MAX_ENTRIES: u64 = 10_000;

/// The joined text of consecutive messages of an output lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotEntry {
    /// Sequence of the first message.
    pub first: Sequence,
    /// Sequence of the last message.
    pub last: Sequence,
    /// Their text.
    pub text: String,
}

/// What became of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotAppended {
    /// It is there.
    Done,
    /// The snapshots stand at this message, not where the writer took them to stand.
    Moved(Sequence),
    /// The lane itself stands at this message: the text is of messages that it does not have.
    Ahead(Sequence),
}

impl Bus {
    /// Appends an entry to a lane's snapshots, which stand at `after` as far as the writer knows. What lies
    /// between that and the entry is a hole, of messages that the writer found cannot be had.
    ///
    /// # Errors
    /// [`BusError`] if Redis cannot be asked; safe to repeat.
    pub async fn append_snapshot(
        &self,
        run: &RunId,
        lane: &Lane,
        after: Sequence,
        entry: &SnapshotEntry,
    ) -> Result<SnapshotAppended, BusError> {
        let packed = snapshot_text::pack(&entry.text);
        let packed = packed.map_err(|error| BusError::Rejected(format!("a snapshot's text: {error}")))?;
        let keys = vec![keys::snapshot(run, lane), keys::lanes(run)];
        let args = vec![
            lane.to_string().into(),
            after.to_string().into(),
            entry.first.to_string().into(),
            entry.last.to_string().into(),
            packed.into(),
            MAX_ENTRIES.to_string().into(),
        ];
        let reply = self.snapshot_script(keys, args).await?;
        let unexpected = || BusError::Reply(format!("snapshot answered {reply:?}"));
        let (outcome, at): (String, u64) = reply.clone().convert()?;
        let at = Sequence::new(at).map_err(|_| unexpected())?;
        match outcome.as_str() {
            "OK" => Ok(SnapshotAppended::Done),
            "MOVED" => Ok(SnapshotAppended::Moved(at)),
            "AHEAD" => Ok(SnapshotAppended::Ahead(at)),
            _ => Err(unexpected()),
        }
    }

    /// Up to which message a lane's snapshots go; [`Sequence::NONE`] if there are none.
    ///
    /// # Errors
    /// [`BusError`] if Redis cannot be asked.
    pub async fn snapshot_tail(&self, run: &RunId, lane: &Lane) -> Result<Sequence, BusError> {
        let key = keys::snapshot(run, lane);
        let reply: Value = self.client().await.xrevrange(key, "+", "-", Some(1)).await?;
        let tail = entries(reply)?.into_iter().next();
        tail.map_or(Ok(Sequence::NONE), |(id, _)| sequence(&id))
    }

    /// At most `count` entries of a lane's snapshots, those after `after`. One that cannot be read ends
    /// them: what follows is read from the lane itself.
    ///
    /// # Errors
    /// [`BusError`] if Redis cannot be asked.
    pub async fn snapshots(
        &self,
        run: &RunId,
        lane: &Lane,
        after: Sequence,
        count: u64,
    ) -> Result<Vec<SnapshotEntry>, BusError> {
        let start = format!("({}", EntryId::after(after));
        let key = keys::snapshot(run, lane);
        let reply: Value = self.client().await.xrange(key, start, "+", Some(count)).await?;
        let read = entries(reply)?.into_iter().map(|(id, fields)| parse(&id, &fields));
        Ok(read.take_while(Option::is_some).flatten().collect())
    }
}

type Entries = Vec<(String, Vec<Bytes>)>;

fn entries(reply: Value) -> Result<Entries, BusError> {
    if matches!(reply, Value::Null) { Ok(Vec::new()) } else { Ok(reply.convert()?) }
}

fn sequence(id: &str) -> Result<Sequence, BusError> {
    let number = id.strip_suffix("-0").and_then(|number| number.parse().ok());
    let sequence = number.and_then(|number| Sequence::new(number).ok());
    sequence.ok_or_else(|| BusError::Reply(format!("{id:?} is no snapshot's ID")))
}

fn parse(id: &str, fields: &[Bytes]) -> Option<SnapshotEntry> {
    let [first, number, z, packed] = fields else { return None };
    let first = (first == "first" && z == "z").then(|| std::str::from_utf8(number).ok()?.parse().ok())??;
    let (first, last) = (Sequence::new(first).ok()?, sequence(id).ok()?);
    let text = snapshot_text::unpack(packed).ok()?;
    (Sequence::NONE < first && first <= last).then_some(SnapshotEntry { first, last, text })
}
