//! A view's ring: the last frames it encoded, shared by all its viewers. Pure: no clock, no I/O.

use std::collections::VecDeque;

use bytes::Bytes;
use runcast_protocol::{Cursor, Gap, Lane, Sequence};

/// One encoded SSE frame.
#[derive(Debug, Clone)]
pub struct Frame {
    /// The lane and the last sequence that the frame stands for; none for `end`.
    pub at: Option<(Lane, Sequence)>,
    /// Of a message, the first sequence that it stands for.
    pub first: Sequence,
    /// The whole frame, from `id:` to the blank line.
    pub bytes: Bytes,
    /// The same as an HTTP/1.1 chunk.
    pub chunk: Bytes,
    /// Where the `id:` line ends: a viewer ahead of the view puts its own in place.
    pub id_len: usize,
    /// What a gap tells: whoever has seen some of it is told of less.
    pub gap: Option<Box<Gap>>,
}

impl Frame {
    /// The frame's `id:` line, which tells where a viewer stands after it.
    pub fn id_line(&self) -> Bytes {
        self.bytes.slice(..self.id_len)
    }

    /// Whether a viewer stands within the messages that the frame tells as one.
    pub fn is_entered_by(&self, cursor: &Cursor) -> bool {
        let Some((lane, last)) = self.at.as_ref().filter(|_| self.gap.is_none()) else { return false };
        self.first < *last && {
            let seen = cursor.position(lane);
            self.first <= seen && seen < *last
        }
    }
}

/// How much a ring holds.
#[derive(Debug, Clone, Copy)]
pub struct RingLimits {
    /// Most frames.
    pub frames: usize,
    /// Most bytes; the last frame is held whatever its size.
    pub bytes: usize,
}

/// The last frames of a view, numbered from 0 since the view began.
///
/// Invariant: `base` plus the frames' positions, in order, is `head`.
#[derive(Debug)]
pub struct Ring {
    frames: VecDeque<Frame>,
    /// Number of the first frame held.
    start: u64,
    bytes: usize,
    base: Cursor,
    head: Cursor,
    limits: RingLimits,
}

/// Where a viewer enters.
#[derive(Debug, PartialEq, Eq)]
pub enum Entrance {
    /// It stands exactly at the head; what it lacks begins with this frame.
    Head(u64),
    /// All that it lacks is in the ring, from this frame on, between things that it has.
    Within(u64),
    /// It lacks something that the ring no longer holds.
    Before,
}

impl Ring {
    /// An empty ring of a view that stands at `head`.
    pub fn new(head: Cursor, limits: RingLimits) -> Self {
        Self { frames: VecDeque::new(), start: 0, bytes: 0, base: head.clone(), head, limits }
    }

    /// Where the view stands after its last frame.
    pub fn head(&self) -> &Cursor {
        &self.head
    }

    /// Number of the frame that comes next.
    pub fn end(&self) -> u64 {
        self.start + self.frames.len() as u64
    }

    /// Moves the view's position without a frame: past messages that its viewers do not see.
    pub fn skip(&mut self, lane: &Lane, last: Sequence) {
        self.head.set(lane, last);
        if self.frames.is_empty() {
            self.base.set(lane, last);
        }
    }

    /// Moves the view's position to where the frame that is pushed next will stand, and returns it.
    pub fn advance(&mut self, lane: &Lane, last: Sequence) -> &Cursor {
        self.head.set(lane, last);
        &self.head
    }

    /// Adds a frame and drops the oldest beyond the limits.
    pub fn push(&mut self, frame: Frame) {
        self.bytes += frame.bytes.len();
        self.frames.push_back(frame);
        while self.frames.len() > 1
            && (self.frames.len() > self.limits.frames || self.bytes > self.limits.bytes)
            && let Some(dropped) = self.frames.pop_front()
        {
            self.bytes -= dropped.bytes.len();
            self.start += 1;
            if let Some((lane, last)) = dropped.at {
                self.base.set(&lane, last);
            }
        }
    }

    /// The frames from number `from` on; none if the ring no longer holds it.
    pub fn read(&self, from: u64) -> Option<impl Iterator<Item = &Frame>> {
        let index = usize::try_from(from.checked_sub(self.start)?).ok()?;
        Some(self.frames.range(index.min(self.frames.len())..))
    }

    /// Where a viewer that stands at `cursor` enters.
    pub fn entrance(&self, cursor: &Cursor) -> Entrance {
        if !cursor.covers(&self.base) {
            Entrance::Before
        } else if *cursor == self.head {
            // `end` stands at no lane, and is for those who have seen all else.
            let unplaced = self.frames.iter().rev().take_while(|frame| frame.at.is_none()).count();
            Entrance::Head(self.end() - unplaced as u64)
        } else if self.frames.iter().any(|frame| frame.is_entered_by(cursor)) {
            // It has part of what is told as one, which cannot be told in part: it reads on until it is past it.
            Entrance::Before
        } else {
            Entrance::Within(self.start)
        }
    }
}
