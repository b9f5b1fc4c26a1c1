//! Letters from other agents of the run, until nobody can want them any more.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use runcast_protocol::{Cursor, Gap, GapReason, Lane, Letter, Sequence, VariationId};
use serde_json::Value;

/// Most letters, and bytes of them, that are kept for an agent that is not listening; the oldest go.
const MAX_LETTERS: usize = 1024;
const MAX_BYTES: usize = 4 << 20;

/// A letter that came.
#[derive(Debug, Clone, PartialEq)]
pub struct Received {
    /// The sender's control lane.
    pub lane: Lane,
    /// Its number there.
    pub sequence: Sequence,
    /// Who wrote it.
    pub from: VariationId,
    /// What it says.
    pub payload: Value,
    size: usize,
}

/// The letters that are kept.
#[derive(Debug, Default)]
pub(super) struct Letters {
    kept: VecDeque<Arc<Received>>,
    bytes: usize,
    /// For each sender's lane, up to where letters were dropped.
    dropped: BTreeMap<Lane, (Sequence, Sequence)>,
}

impl Letters {
    /// Takes a letter of `size` bytes in.
    pub(super) fn add(
        &mut self,
        lane: Lane,
        sequence: Sequence,
        from: VariationId,
        letter: Letter,
        size: usize,
    ) {
        self.bytes += size;
        self.kept.push_back(Arc::new(Received { lane, sequence, from, payload: letter.payload, size }));
        while self.kept.len() > MAX_LETTERS || self.bytes > MAX_BYTES {
            let Some(oldest) = self.kept.pop_front() else { return };
            self.bytes -= oldest.size;
            self.dropped
                .entry(oldest.lane.clone())
                .and_modify(|(_, last)| *last = oldest.sequence)
                .or_insert((oldest.sequence, oldest.sequence));
        }
    }

    /// The letters after a cursor, in the order in which they came.
    pub(super) fn after(&self, cursor: &Cursor) -> impl Iterator<Item = &Arc<Received>> {
        self.kept.iter().filter(|letter| letter.sequence > cursor.position(&letter.lane))
    }

    /// What lies after the cursor and is not kept any more.
    pub(super) fn gaps(&self, cursor: &Cursor) -> impl Iterator<Item = Gap> {
        self.dropped.iter().filter_map(|(lane, (first, last))| {
            let position = cursor.position(lane);
            let first = position.next().max(*first);
            (position < *last).then(|| Gap {
                lane: lane.clone(),
                first,
                last: *last,
                reason: GapReason::Trimmed,
            })
        })
    }
}
