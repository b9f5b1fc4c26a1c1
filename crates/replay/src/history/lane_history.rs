//! One lane's history, forwards: what is archived from the archive, the rest from Redis.

use std::time::Duration;

use runcast_bus::{Found, Item, LaneReader};
use runcast_protocol::{Entry, Gap, GapReason, Lane, Sequence};

use crate::error::Error;
use crate::history::RunHistory;

/// How often Redis is asked again for what it counts and does not have: after a failover a sidecar
/// sends it anew.
const ATTEMPTS: u32 = 5;
/// The pause before each.
const PAUSE: Duration = Duration::from_millis(100);

/// A lane's messages, a chunk at a time.
#[derive(Debug, Clone)]
pub struct LaneHistory {
    run: RunHistory,
    reader: LaneReader,
    upto: Sequence,
    gap: Option<Gap>,
}

/// Consecutive messages of a lane.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chunk {
    /// What is missing before them.
    pub gap: Option<Gap>,
    /// The messages, in order.
    pub entries: Vec<Entry>,
}

impl LaneHistory {
    /// What `run` has of a lane after the reader's position and up to `upto`.
    pub fn new(run: RunHistory, reader: LaneReader, upto: Sequence) -> Self {
        Self { run, reader, upto, gap: None }
    }

    /// The lane.
    pub fn lane(&self) -> &Lane {
        self.reader.lane()
    }

    /// The next messages; none at the end. Never an empty chunk.
    ///
    /// # Errors
    /// If archive or Redis cannot be read.
    pub async fn next(&mut self) -> Result<Option<Chunk>, Error> {
        let mut attempts = 0;
        while self.reader.position() < self.upto {
            if self.reader.position() < self.run.archived_upto(self.lane()) {
                if let Some(chunk) = self.read_archive().await? {
                    return Ok(Some(chunk));
                }
                continue;
            }
            match self.reader.page(&self.run.bus, &self.run.run, self.upto).await? {
                Found::Items(items) => {
                    if let Some(chunk) = self.sort(items) {
                        return Ok(Some(chunk));
                    }
                }
                Found::NotYet if attempts < ATTEMPTS => {
                    attempts += 1;
                    tokio::time::sleep(PAUSE).await;
                }
                Found::NotYet => break,
            }
        }
        Ok(self.gap.take().map(|gap| Chunk { gap: Some(gap), entries: Vec::new() }))
    }

    /// A chunk from the archive; none if it has nothing more although it said so: that is a gap.
    async fn read_archive(&mut self) -> Result<Option<Chunk>, Error> {
        let (lane, after) = (self.lane().clone(), self.reader.position());
        let Some(archived) = &self.run.archived else { return Ok(None) };
        let mut entries = archived.after(&lane, after).await?;
        entries.retain(|entry| entry.sequence > after && entry.sequence <= self.upto);
        let last = entries
            .last()
            .map_or_else(|| self.run.archived_upto(&lane).min(self.upto), |entry| entry.sequence);
        let first = entries.first().map_or_else(|| last.next(), |entry| entry.sequence);
        self.reader = LaneReader::new(lane.clone(), last, self.reader.scan());
        if first > after.next() {
            let gap = Gap { lane, first: after.next(), last: first.previous(), reason: GapReason::Trimmed };
            self.lose(gap);
        }
        if entries.is_empty() {
            return Ok(None);
        }
        Ok(Some(Chunk { gap: self.gap.take(), entries }))
    }

    /// Makes a chunk of what a page held; what comes after a gap in it is read again.
    fn sort(&mut self, items: Vec<Item>) -> Option<Chunk> {
        let mut entries = Vec::with_capacity(items.len());
        for item in items {
            match item {
                Item::Message(entry) => entries.push(entry),
                Item::Gap(gap) if entries.is_empty() => self.lose(gap),
                Item::Gap(gap) => {
                    self.reader = LaneReader::new(gap.lane, gap.first.previous(), self.reader.scan());
                    break;
                }
            }
        }
        (!entries.is_empty()).then(|| Chunk { gap: self.gap.take(), entries })
    }

    /// Keeps a gap until the messages after it are there; two in a row are one.
    fn lose(&mut self, gap: Gap) {
        match &mut self.gap {
            Some(before) => before.last = gap.last,
            None => self.gap = Some(gap),
        }
    }
}
