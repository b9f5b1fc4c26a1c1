//! What segments that were found say. Pure: bytes in, what was recovered out.

use std::collections::{BTreeMap, VecDeque};

use runcast_protocol::{Channel, Sequence};

use super::frame::{Entry, Head, LANES, MAGIC, decode, index};
use super::ledger::Ledger;
use super::{Position, Recorded};

/// What an earlier sidecar left in the journal.
#[derive(Debug, Default)]
pub struct Recovered {
    /// The lanes of which the journal knows anything.
    pub lanes: BTreeMap<Channel, RecoveredLane>,
    /// The end that was being written when the sidecar was killed, and was cut off. It was not accepted.
    pub torn: Option<Damage>,
    /// What was accepted and cannot be read any more; the disk is not sound.
    pub damaged: Vec<Damage>,
    /// Entries of a later version, which were skipped.
    pub skipped: u64,
}

/// One lane as it was left.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct RecoveredLane {
    /// Where the lane stood in Redis when it was first claimed; none if it never was.
    pub origin: Option<Sequence>,
    /// How many messages were taken, those that are safe included.
    pub taken: u64,
    /// How many of these are safe.
    pub safe: u64,
    /// The messages that are not, in order. Their counts have a hole where some were lost.
    pub messages: VecDeque<Recorded>,
    /// How many messages were lost to damage. Those at the end of the last segment are not known of.
    pub lost: u64,
}

/// A part of a segment, from `offset` to its end, that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damage {
    /// The segment's number.
    pub segment: u32,
    /// Where it begins.
    pub offset: u64,
    /// How much it is.
    pub bytes: u64,
}

/// Reads one segment after the other, in order.
#[derive(Debug, Default)]
pub(super) struct Replay {
    pub(super) ledger: Ledger,
    messages: [VecDeque<Recorded>; LANES],
    torn: Option<Damage>,
    damaged: Vec<Damage>,
    skipped: u64,
    /// Segments were found before.
    begun: bool,
}

/// How a segment begins.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// As it should, and the first entry after its head is at the given offset.
    Head(Box<Head>, usize),
    /// In a later version.
    Version(u32),
    /// Its head was being written.
    Unborn,
    /// Not as it was written.
    Damaged,
}

/// What became of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Read {
    /// It is sound up to there; what follows is torn.
    Sound(u64),
    /// It is not.
    Damaged,
}

/// Reads how a segment begins.
pub(super) fn start(bytes: &[u8]) -> Start {
    let (magic, version) = MAGIC.split_at(8);
    match bytes.split_at_checked(MAGIC.len()) {
        Some((begin, _)) if begin.starts_with(magic) && !begin.ends_with(version) => {
            let version = begin.last_chunk().copied().unwrap_or_default();
            return Start::Version(u32::from_le_bytes(version));
        }
        Some((begin, rest)) if begin == MAGIC => {
            if let Some((Entry::Head(head), length)) = decode(rest) {
                return Start::Head(Box::new(head), MAGIC.len() + length);
            }
        }
        _ => {}
    }
    if is_torn(bytes) { Start::Unborn } else { Start::Damaged }
}

// Whether bytes that begin with no sound entry are a write that was cut short: then nothing follows.
fn is_torn(bytes: &[u8]) -> bool {
    (1..bytes.len()).all(|at| decode(&bytes[at..]).is_none())
}

impl Replay {
    /// Reads a segment with the given head, which ends at `offset`. In the `last` one the end may be torn.
    pub(super) fn segment(
        &mut self,
        segment: u32,
        bytes: &[u8],
        head: &Head,
        mut offset: usize,
        last: bool,
    ) -> Read {
        self.ledger.resume(&head.lanes, !self.begun);
        self.begun = true;
        while let Some((entry, length)) = decode(&bytes[offset..]) {
            let position = Position { segment, offset: offset as u64, length: length as u32 };
            self.entry(&entry, position);
            offset += length;
        }
        let rest = &bytes[offset..];
        let damage = Damage { segment, offset: offset as u64, bytes: rest.len() as u64 };
        if rest.is_empty() {
            Read::Sound(damage.offset)
        } else if last && is_torn(rest) {
            self.torn = Some(damage);
            Read::Sound(damage.offset)
        } else {
            self.damaged.push(damage);
            Read::Damaged
        }
    }

    /// A segment cannot be read at all.
    pub(super) fn damaged(&mut self, segment: u32, bytes: u64) -> Read {
        self.begun = true;
        self.damaged.push(Damage { segment, offset: 0, bytes });
        Read::Damaged
    }

    /// The last segment's head was being written.
    pub(super) fn unborn(&mut self, segment: u32, bytes: u64) {
        self.torn = Some(Damage { segment, offset: 0, bytes });
    }

    fn entry(&mut self, entry: &Entry<'_>, position: Position) {
        match *entry {
            Entry::Message { channel, at, .. } => {
                let count = self.ledger.take(channel, at);
                self.messages[index(channel)].push_back(Recorded { count, position });
            }
            Entry::Origin { channel, last } => self.ledger.origin(channel, last),
            Entry::Safe { channel, count } => {
                self.ledger.safe(channel, count);
                self.forget_safe(channel);
            }
            Entry::Head(_) | Entry::Unknown => self.skipped += 1,
        }
    }

    // As early as possible, so that the list is never longer than what is not safe.
    fn forget_safe(&mut self, channel: Channel) {
        let safe = self.ledger.marks()[index(channel)].safe;
        let messages = &mut self.messages[index(channel)];
        while messages.front().is_some_and(|message| message.count <= safe) {
            messages.pop_front();
        }
    }

    /// What was recovered, and the ledger to go on with.
    pub(super) fn finish(mut self) -> (Ledger, Recovered) {
        let mut lanes = BTreeMap::new();
        for channel in Channel::ALL {
            self.forget_safe(channel);
            let marks = self.ledger.marks()[index(channel)];
            let messages = std::mem::take(&mut self.messages[index(channel)]);
            if marks.taken > 0 || marks.origin.is_some() {
                let lost = marks.taken - marks.safe - messages.len() as u64;
                let (origin, taken, safe) = (marks.origin, marks.taken, marks.safe);
                lanes.insert(channel, RecoveredLane { origin, taken, safe, messages, lost });
            }
        }
        let Self { ledger, torn, damaged, skipped, .. } = self;
        (ledger, Recovered { lanes, torn, damaged, skipped })
    }
}
