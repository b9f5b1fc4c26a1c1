//! What was accepted from the agent and is not yet known to be safe in Redis, on disk.
//!
//! It survives the sidecar's death at any instant: what a write has handed to the kernel stays. It is
//! not synced, and so does not survive the node's, with which its folder goes anyway
//! (`docs/adr/0004-journal.md`).
//!
//! Messages are counted for each channel, from the journal's very first on; with the lane's origin
//! known, the `n`th message has the sequence `origin + n`.

mod error;
mod frame;
mod ledger;
mod open;
mod recovery;
mod segment;

use std::collections::VecDeque;
use std::fs::File;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use runcast_protocol::{Channel, RunId, Sequence, VariationId};

pub use self::error::JournalError;
use self::frame::{Entry, Head, MAGIC, MESSAGE_OVERHEAD, decode};
use self::ledger::Ledger;
pub use self::recovery::{Damage, Recovered, RecoveredLane};
use self::segment::Segment;

/// More than this in one write is refused, and a segment grows no larger before its last write.
const MAX_WRITE: u64 = 1 << 30;

/// The buffer keeps no more than this from one write to the next.
const KEPT_BUFFER: usize = 1 << 20;

/// How large the journal may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes on disk. Marks, which make room, may go slightly beyond.
    pub bytes: u64,
    /// A new segment is begun at this size. Taken to be at least 1/256 and at most 1/4 of `bytes`:
    /// each segment is an open file, and room is made by whole segments.
    pub segment_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 256 << 20, segment_bytes: 8 << 20 }
    }
}

impl Limits {
    fn segment_bytes(&self) -> u64 {
        self.segment_bytes.max(self.bytes / 256).min(self.bytes / 4).min(MAX_WRITE)
    }
}

/// Where a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The segment's number.
    pub segment: u32,
    /// Bytes of its entry.
    pub length: u32,
    /// Where in the segment the entry begins.
    pub offset: u64,
}

/// A message that is in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recorded {
    /// The how-manieth of its channel, from 1.
    pub count: u64,
    /// Where it is.
    pub position: Position,
}

/// How the journal stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Bytes on disk.
    pub bytes: u64,
    /// Files on disk.
    pub segments: usize,
    /// Messages that are not safe.
    pub messages: u64,
    /// Age of the oldest of them, to about a second.
    pub oldest: Option<Duration>,
}

/// The journal: one process at a time, one call at a time. Calls block for as long as the file system
/// takes, normally microseconds; one that fails has changed nothing on disk.
#[derive(Debug)]
pub struct Journal {
    folder: PathBuf,
    limits: Limits,
    run: RunId,
    variation: VariationId,
    ledger: Ledger,
    /// In order; the last one is written to.
    segments: VecDeque<Segment>,
    next_number: u32,
    /// Of all segments.
    bytes: u64,
    /// Of each segment's head.
    head_length: u64,
    buffer: Vec<u8>,
    _lock: File,
}

impl Journal {
    /// Notes a message: its JSON, in which the sequence does not count. Returns once it would survive
    /// the sidecar.
    ///
    /// # Errors
    /// [`JournalError::Full`] until more is safe, [`JournalError::TooLarge`] if it can never be,
    /// [`JournalError::Io`] if the file system refuses.
    pub fn append(&mut self, channel: Channel, line: &[u8]) -> Result<Recorded, JournalError> {
        self.make_room(MESSAGE_OVERHEAD + line.len())?;
        let at = now();
        self.buffer.clear();
        Entry::Message { channel, at, line }.encode(&mut self.buffer);
        let start = self.write()?;
        Ok(self.recorded(channel, at, start, line))
    }

    /// Notes several messages with one write: all of them or, if it fails, none.
    ///
    /// # Errors
    /// As [`Self::append`].
    pub fn append_all(&mut self, messages: &[(Channel, &[u8])]) -> Result<Vec<Recorded>, JournalError> {
        self.make_room(messages.iter().map(|(_, line)| MESSAGE_OVERHEAD + line.len()).sum())?;
        let at = now();
        self.buffer.clear();
        for &(channel, line) in messages {
            Entry::Message { channel, at, line }.encode(&mut self.buffer);
        }
        let mut start = self.write()?;
        let recorded = messages.iter().map(|&(channel, line)| {
            let recorded = self.recorded(channel, at, start, line);
            start += u64::from(recorded.position.length);
            recorded
        });
        Ok(recorded.collect())
    }

    /// Notes where a lane stood in Redis before this journal's first message of it. Must succeed before
    /// the first append to the lane, or after a crash its messages would be numbered anew. Said again,
    /// the last time counts.
    ///
    /// # Errors
    /// [`JournalError::Io`] if the file system refuses.
    pub fn origin(&mut self, channel: Channel, last: Sequence) -> Result<(), JournalError> {
        self.mark(&Entry::Origin { channel, last })?;
        self.ledger.origin(channel, last);
        Ok(())
    }

    /// Notes that a lane's first `count` messages are safe, and deletes what is not needed any more.
    ///
    /// # Errors
    /// [`JournalError::Io`] if the file system refuses. The count stands all the same, and is written
    /// with the next one; until then a crash may bring messages back that are safe.
    pub fn safe(&mut self, channel: Channel, count: u64) -> Result<(), JournalError> {
        let Some(count) = self.ledger.safe(channel, count) else { return Ok(()) };
        let marked = self.mark(&Entry::Safe { channel, count });
        // Even if the disk is too full for the mark: this is what makes room on it.
        self.trim().and(marked)
    }

    /// Reads a message as it was given to [`Self::append`].
    ///
    /// # Errors
    /// [`JournalError::Gone`] if it was safe, [`JournalError::Damaged`] if it is not any more what was
    /// written, [`JournalError::Io`] if the file system refuses.
    pub fn read(&self, position: Position) -> Result<Bytes, JournalError> {
        let Position { segment, offset, length } = position;
        let place = self.segments.binary_search_by_key(&segment, |segment| segment.number);
        let place = place.map_err(|_| JournalError::Gone(segment))?;
        let bytes = self.segments[place].read(offset, length)?;
        match decode(&bytes) {
            Some((Entry::Message { .. }, _)) => Ok(Bytes::from(bytes).slice(MESSAGE_OVERHEAD..)),
            _ => Err(JournalError::Damaged { segment, offset }),
        }
    }

    /// How it stands.
    pub fn stats(&self) -> Stats {
        let age = |at| Duration::from_micros(now().saturating_sub(at));
        Stats {
            bytes: self.bytes,
            segments: self.segments.len(),
            messages: self.ledger.unsafe_messages(),
            oldest: self.ledger.oldest().map(age),
        }
    }

    fn recorded(&mut self, channel: Channel, at: u64, offset: u64, line: &[u8]) -> Recorded {
        let length = (MESSAGE_OVERHEAD + line.len()) as u32;
        let segment = self.last().number;
        let count = self.ledger.take(channel, at);
        Recorded { count, position: Position { segment, length, offset } }
    }

    /// Checks that a message entry, or several, of so many bytes may be written.
    fn make_room(&mut self, bytes: usize) -> Result<(), JournalError> {
        let (bytes, limit) = (bytes as u64, self.limits.bytes);
        if bytes > MAX_WRITE || bytes + self.head_length > limit {
            return Err(JournalError::TooLarge { bytes, limit });
        }
        if self.bytes_with(bytes) > limit && self.ledger.all_safe(&self.ledger.counts()) {
            // Only the last segment is left then, and that one is not needed either.
            self.begin_segment()?;
            self.trim()?;
        }
        if self.bytes_with(bytes) > limit {
            return Err(JournalError::Full { bytes: self.bytes, limit });
        }
        Ok(())
    }

    /// How large the journal would be with one more write of so many bytes.
    fn bytes_with(&self, bytes: u64) -> u64 {
        let head = if self.fits_last_segment(bytes) { 0 } else { self.head_length };
        self.bytes + head + bytes
    }

    /// Whether so many bytes still belong in the last segment. Any number does if it is new.
    fn fits_last_segment(&self, bytes: u64) -> bool {
        let length = self.segments.back().map_or(0, |last| last.length);
        length + bytes <= self.limits.segment_bytes() || length <= self.head_length
    }

    fn mark(&mut self, entry: &Entry<'_>) -> Result<(), JournalError> {
        self.buffer.clear();
        entry.encode(&mut self.buffer);
        self.write().map(drop)
    }

    /// Writes the buffer with one call; returns where in the last segment it begins.
    fn write(&mut self) -> Result<u64, JournalError> {
        if !self.fits_last_segment(self.buffer.len() as u64) {
            self.begin_segment()?;
        }
        let buffer = std::mem::take(&mut self.buffer);
        let written = self.last().append(&buffer);
        self.buffer = buffer;
        self.buffer.shrink_to(KEPT_BUFFER);
        let start = written?;
        self.bytes += self.buffer.len() as u64;
        Ok(start)
    }

    fn last(&mut self) -> &mut Segment {
        self.segments.back_mut().expect("an open journal has a segment")
    }

    /// Everything goes into a new segment from now on.
    fn begin_segment(&mut self) -> Result<(), JournalError> {
        let number = self.next_number;
        // Not used again even if this fails: the file may have come to be.
        self.next_number += 1;
        let segment = Segment::create(&self.folder, number, &self.head())?;
        if let Some(finished) = self.segments.back_mut() {
            finished.counts = self.ledger.counts();
        }
        self.bytes += segment.length;
        self.segments.push_back(segment);
        Ok(())
    }

    fn head(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        let (run, variation) = (self.run.clone(), self.variation.clone());
        Entry::Head(Head { run, variation, lanes: *self.ledger.marks() }).encode(&mut bytes);
        bytes
    }

    /// Deletes segments from the oldest on, as long as everything in them is safe. The rest is enough:
    /// each segment's head repeats what those before it said of the lanes.
    fn trim(&mut self) -> Result<(), JournalError> {
        while self.segments.len() > 1 && self.ledger.all_safe(&self.segments[0].counts) {
            self.segments[0].delete()?;
            self.bytes -= self.segments[0].length;
            self.segments.pop_front();
        }
        Ok(())
    }
}

/// Microseconds since 1970: ages must outlive the process.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_micros() as u64)
}

#[cfg(test)]
mod tests;
