//! One page of what is lent.

use bytes::Bytes;
use runcast_protocol::{BatchWriter, Entry, Lane, Sequence};

use crate::archive::{ArchiveError, ArchivedRun};

/// Most text in a page, in bytes, unless one message has more.
pub(super) const BYTES: usize = 1 << 20;
/// A page with so much is not filled up: what the archive reads at once would be read again.
const ENOUGH: usize = BYTES / 2;
/// What has more is compressed.
const COMPRESS_ABOVE: usize = 1 << 10;

/// Consecutive messages of a lane, as a batch.
#[derive(Debug)]
pub(super) struct Page {
    last: Sequence,
    messages: u64,
    writer: BatchWriter,
}

impl Page {
    fn new(after: Sequence) -> Self {
        Self { last: after, messages: 0, writer: BatchWriter::default() }
    }

    /// Reads the messages of a lane that follow `after`.
    ///
    /// # Errors
    /// [`ArchiveError`] if the archive cannot be read.
    pub(super) async fn read(
        archived: &ArchivedRun,
        lane: &Lane,
        after: Sequence,
    ) -> Result<Self, ArchiveError> {
        let mut page = Self::new(after);
        while page.writer.len() < ENOUGH
            && page.last < archived.cursor().position(lane)
            && page.take(&archived.after(lane, page.last).await?)
        {}
        Ok(page)
    }

    /// Takes in what comes next, as far as it is consecutive and has room; true if that was all of it,
    /// and something.
    fn take(&mut self, entries: &[Entry]) -> bool {
        for entry in entries {
            let is_next =
                entry.sequence == self.last.next() || (self.is_empty() && entry.sequence > self.last);
            let has_room = self.is_empty() || self.writer.len() + entry.line.len() <= BYTES;
            if !is_next || !has_room {
                return false;
            }
            self.last = entry.sequence;
            self.messages += 1;
            self.writer.push(&entry.line);
        }
        !entries.is_empty()
    }

    /// Its last message; what it was to follow if it is empty.
    pub(super) fn last(&self) -> Sequence {
        self.last
    }

    /// How many messages it has.
    pub(super) fn messages(&self) -> u64 {
        self.messages
    }

    /// Whether the archive has nothing more.
    pub(super) fn is_empty(&self) -> bool {
        self.messages == 0
    }

    /// The batch.
    pub(super) fn finish(self) -> Bytes {
        self.writer.finish(COMPRESS_ABOVE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(numbers: impl IntoIterator<Item = u64>, bytes: usize) -> Vec<Entry> {
        let entry = |number| Entry {
            sequence: Sequence::new(number).unwrap(),
            variation: "a".parse().unwrap(),
            line: "x".repeat(bytes).into(),
        };
        numbers.into_iter().map(entry).collect()
    }

    #[test]
    fn a_page_is_consecutive_and_bounded() {
        let mut page = Page::new(Sequence::new(5).unwrap());
        assert!(!page.take(&[]) && page.is_empty());
        assert!(page.take(&entries(9..=10, 10)), "a hole before it stays one");
        assert!(!page.take(&entries([11, 13], 10)), "after a hole another page begins");
        assert_eq!((page.last().get(), page.messages()), (11, 3));
        assert!(!page.take(&entries(12..=14, BYTES / 2)));
        assert_eq!((page.last().get(), page.messages()), (12, 4));

        let mut page = Page::new(Sequence::NONE);
        assert!(page.take(&entries([1], BYTES * 2)), "one message has room always");
        assert!(!page.take(&entries([2], 1)));
        assert_eq!(page.last().get(), 1);
    }
}
