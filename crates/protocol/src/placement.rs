//! Where a batch stands to a position: the rule behind "exactly once, in order".

use crate::{Batch, Entry, Sequence};

/// Where a batch stands to the position of its lane.
#[derive(Debug, PartialEq, Eq)]
pub enum Placement<'a> {
    /// All of it was passed on before.
    Duplicate,
    /// These entries of it come next.
    Next(&'a [Entry]),
    /// Messages before it are missing.
    Ahead,
}

/// Places a batch: a message is passed on only if it is the next one; lower is a duplicate, higher
/// means that something was missed.
pub fn place(position: Sequence, batch: &Batch) -> Placement<'_> {
    if batch.last() <= position {
        return Placement::Duplicate;
    }
    let next = position.next();
    match batch.entries.iter().position(|entry| entry.sequence == next) {
        Some(index) => Placement::Next(&batch.entries[index..]),
        None => Placement::Ahead,
    }
}
