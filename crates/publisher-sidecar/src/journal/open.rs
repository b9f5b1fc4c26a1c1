//! Opening the journal: what an earlier sidecar left in it.

use std::collections::VecDeque;
use std::path::Path;

use runcast_protocol::{RunId, VariationId};

use super::ledger::Ledger;
use super::recovery::{Read, Recovered, Replay, Start, start};
use super::segment::{self, Segment};
use super::{Journal, JournalError, Limits};

impl Journal {
    /// Opens the journal in `folder`, or begins one, and tells what an earlier sidecar left there.
    /// Reads one segment at a time.
    ///
    /// # Errors
    /// [`JournalError::Locked`], [`JournalError::Foreign`] and [`JournalError::Version`] if it cannot
    /// be this sidecar's, [`JournalError::Io`] if the file system refuses.
    pub fn open(
        folder: &Path,
        limits: Limits,
        run: &RunId,
        variation: &VariationId,
    ) -> Result<(Self, Recovered), JournalError> {
        let lock = segment::lock(folder)?;
        let numbers = segment::numbers(folder)?;
        let last = numbers.last().copied();
        let mut journal = Self {
            folder: folder.into(),
            limits,
            run: run.clone(),
            variation: variation.clone(),
            ledger: Ledger::default(),
            segments: VecDeque::new(),
            next_number: last.map_or(0, |last| last.saturating_add(1)),
            bytes: 0,
            head_length: 0,
            buffer: Vec::new(),
            _lock: lock,
        };
        journal.head_length = journal.head().len() as u64;
        let mut replay = Replay::default();
        let mut writable = false;
        for number in numbers {
            writable = journal.replay(&mut replay, number, Some(number) == last)?;
        }
        let (ledger, recovered) = replay.finish();
        journal.ledger = ledger;
        if !writable {
            journal.begin_segment()?;
        }
        journal.trim()?;
        Ok((journal, recovered))
    }

    /// Reads what is left of a segment; returns whether it can be written to.
    fn replay(&mut self, replay: &mut Replay, number: u32, last: bool) -> Result<bool, JournalError> {
        let (mut segment, bytes) = Segment::open(&self.folder, number)?;
        let read = match start(&bytes) {
            Start::Version(version) => return Err(JournalError::Version { path: segment.path, version }),
            Start::Head(head, _) if head.run != self.run || head.variation != self.variation => {
                let (folder, run, variation) = (self.folder.clone(), head.run, head.variation);
                return Err(JournalError::Foreign { folder, run, variation });
            }
            Start::Head(head, after) => replay.segment(number, &bytes, &head, after, last),
            Start::Unborn => {
                if last {
                    replay.unborn(number, segment.length);
                }
                segment.delete()?;
                return Ok(false);
            }
            Start::Damaged => replay.damaged(number, segment.length),
        };
        if let Read::Sound(end) = read
            && end < segment.length
        {
            segment.cut(end)?;
        }
        segment.counts = replay.ledger.counts();
        self.bytes += segment.length;
        self.segments.push_back(segment);
        Ok(matches!(read, Read::Sound(_)))
    }
}
