//! Writes what output lanes said so far as joined text, for those who join late.

use std::collections::BTreeMap;

use runcast_bus::{Bus, BusError, Found, Item, LaneReader, Scan, SnapshotAppended, SnapshotEntry};
use runcast_protocol::{Lane, RunId, Sequence};

use super::summary::Summary;

/// Text of one entry, in bytes: with so much of it beyond the last entry, a lane gets another one.
const ENTRY_BYTES: u64 = 256 << 10;
/// Pages of a lane that are read at most in one turn.
const PAGES: usize = 16;

/// How far the snapshots of a run's output lanes have come. The text itself is read from the lane when
/// there is enough of it, so nothing is held meanwhile.
#[derive(Debug, Default)]
pub(super) struct Snapshots(BTreeMap<Lane, Standing>);

#[derive(Debug, Clone, Copy)]
struct Standing {
    /// Up to which message the snapshots go.
    last: Sequence,
    /// Bytes that the lane said up to there, at least about.
    bytes: u64,
}

impl Snapshots {
    /// Writes what is due of a lane, up to where it is folded into `summary`; a bounded part of it if that
    /// is much. Returns whether there may be more at once.
    pub(super) async fn advance(
        &mut self,
        bus: &Bus,
        run: &RunId,
        lane: &Lane,
        summary: &Summary,
    ) -> Result<bool, BusError> {
        let total = summary.bytes(lane);
        if total < ENTRY_BYTES {
            return Ok(false);
        }
        let upto = summary.cursor().position(lane);
        let standing = match self.0.get(lane) {
            Some(standing) => *standing,
            None => guess(bus.snapshot_tail(run, lane).await?, upto, total),
        };
        self.0.insert(lane.clone(), standing);
        if total.saturating_sub(standing.bytes) < ENTRY_BYTES {
            return Ok(false);
        }
        let mut writer = Writer { bus, run, lane, standing, span: None, text: String::new() };
        let mut reader = LaneReader::new(lane.clone(), standing.last, Scan::default());
        let mut more = true;
        for _ in 0..PAGES {
            if reader.position() >= upto {
                // Now it is known how much was said.
                writer.standing.bytes = total.saturating_sub(writer.text.len() as u64);
                more = false;
                break;
            }
            let Found::Items(items) = reader.page(bus, run, upto).await? else {
                more = false;
                break;
            };
            if let Some(stands) = writer.take(items).await? {
                // Another replica was first, or the run is not the one that it was.
                writer.standing = guess(stands, upto, total);
                more = stands > standing.last;
                break;
            }
        }
        self.0.insert(lane.clone(), writer.standing);
        Ok(more)
    }
}

/// Where the snapshots stand that go up to `last`, if all messages up to `upto` are of one length.
fn guess(last: Sequence, upto: Sequence, total: u64) -> Standing {
    let share = u128::from(total) * u128::from(last.get().min(upto.get())) / u128::from(upto.get().max(1));
    Standing { last, bytes: u64::try_from(share).unwrap_or(total) }
}

struct Writer<'a> {
    bus: &'a Bus,
    run: &'a RunId,
    lane: &'a Lane,
    standing: Standing,
    span: Option<(Sequence, Sequence)>,
    text: String,
}

impl Writer<'_> {
    /// Takes in what comes next; where the snapshots stand instead, if an entry was not taken.
    async fn take(&mut self, items: Vec<Item>) -> Result<Option<Sequence>, BusError> {
        for item in items {
            let full = match item {
                Item::Message(entry) => {
                    let (first, _) = self.span.unwrap_or((entry.sequence, entry.sequence));
                    self.span = Some((first, entry.sequence));
                    self.text.push_str(&entry.text().unwrap_or_default());
                    self.text.len() as u64 >= ENTRY_BYTES
                }
                // Text is never joined over a hole: what comes after is another entry.
                Item::Gap(_) => true,
            };
            if full && let Some(stands) = self.flush().await? {
                return Ok(Some(stands));
            }
        }
        Ok(None)
    }

    async fn flush(&mut self) -> Result<Option<Sequence>, BusError> {
        let Some((first, last)) = self.span.take() else { return Ok(None) };
        let entry = SnapshotEntry { first, last, text: std::mem::take(&mut self.text) };
        match self.bus.append_snapshot(self.run, self.lane, self.standing.last, &entry).await? {
            SnapshotAppended::Done => {
                let bytes = self.standing.bytes + entry.text.len() as u64;
                self.standing = Standing { last, bytes };
                Ok(None)
            }
            SnapshotAppended::Moved(stands) => Ok(Some(stands)),
            // Nothing was written: whether there are snapshots is asked again the next time.
            SnapshotAppended::Ahead(_) => Ok(Some(Sequence::NONE)),
        }
    }
}
