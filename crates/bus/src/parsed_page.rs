//! A page whose batches were looked into, once, for any number of readers.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;

use bytes::Bytes;
use runcast_protocol::{Batch, Lane, Sequence};

use crate::{EntryId, LaneState, Page};

/// What an entry takes in memory beside its bytes, about.
const ENTRY_BYTES: usize = 96;

/// A page whose batches were looked into.
#[derive(Debug, Clone)]
pub struct ParsedPage {
    /// Where lanes stood when it was read: the one that was asked for, or, if all were, all of them,
    /// and then only on the stream's last page, since no other tells of what is missing.
    pub lanes: BTreeMap<Lane, LaneState>,
    /// The batches, oldest first.
    pub batches: Vec<ParsedBatch>,
    /// ID of the page's last entry; that which was asked for if the page is empty.
    pub end: EntryId,
    /// Whether the stream held nothing more after this page.
    pub is_last: bool,
}

/// One entry of a page.
#[derive(Debug, Clone)]
pub struct ParsedBatch {
    /// What tells the entry apart from another one with the same ID.
    pub(crate) held: u64,
    /// Its size in Redis, in bytes.
    pub(crate) bytes: usize,
    /// What it holds; none if that is no batch.
    pub batch: Option<Arc<Batch>>,
}

impl ParsedPage {
    /// Looks into the batches of a page that was read for `lane`.
    pub fn of(lane: &Lane, page: Page) -> Self {
        let lanes = page.lane.map(|state| (lane.clone(), state)).into_iter().collect();
        Self::new(lanes, page.batches, page.end, page.is_last)
    }

    pub(crate) fn new(
        lanes: BTreeMap<Lane, LaneState>,
        batches: Vec<Bytes>,
        end: EntryId,
        is_last: bool,
    ) -> Self {
        let batches = batches.into_iter().map(ParsedBatch::of).collect();
        Self { lanes, batches, end, is_last }
    }

    /// Where a lane stood; none if Redis knew no such lane.
    pub(crate) fn stood_at(&self, lane: &Lane) -> Option<Sequence> {
        self.lanes.get(lane).map(|state| state.last)
    }

    /// Bytes in Redis of the average entry; none if the page is empty.
    pub fn average(&self) -> Option<usize> {
        let bytes: usize = self.batches.iter().map(|batch| batch.bytes).sum();
        bytes.checked_div(self.batches.len())
    }

    /// What it takes in memory, in bytes, about.
    pub fn weight(&self) -> usize {
        let entries = self.batches.iter().filter_map(|parsed| parsed.batch.as_ref());
        let entries = entries.flat_map(|batch| &batch.entries);
        let lines: usize = entries.map(|entry| entry.line.len() + ENTRY_BYTES).sum();
        lines + (self.batches.len() + self.lanes.len()) * ENTRY_BYTES
    }
}

impl ParsedBatch {
    fn of(payload: Bytes) -> Self {
        let mut hasher = DefaultHasher::new();
        hasher.write(&payload);
        let (held, bytes) = (hasher.finish(), payload.len());
        Self { held, bytes, batch: Batch::parse(payload).ok().map(Arc::new) }
    }
}
