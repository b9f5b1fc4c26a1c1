//! The read model of one run. Pure.

use runcast_protocol::{Cursor, Entry, Lane};
use serde::{Deserialize, Serialize};

/// The read model of one run: a fold of its lanes, each in order. The order between lanes does not
/// matter, so it can be folded from pub/sub, from streams or from the archive alike.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    cursor: Cursor,
}

impl Summary {
    /// How far each lane is folded in.
    pub fn cursor(&self) -> &Cursor {
        &self.cursor
    }

    /// Folds in messages of a lane, in order. What was folded in before changes nothing.
    pub fn apply(&mut self, lane: &Lane, entries: &[Entry]) {
        for entry in entries {
            self.cursor.set(lane, entry.sequence);
        }
    }
}
