//! How one viewer reads the ring that it shares with others. Pure: no clock, no I/O.

use std::sync::Arc;

use bytes::Bytes;
use runcast_protocol::{Cursor, EventName, Gap, sse};

use crate::ring::{Entrance, Frame, Ring};
use crate::view::{encode, json};

/// What is read at most in one go, unless one frame is larger.
const CHUNK_BYTES: usize = 64 << 10;

/// A viewer's place in a ring.
#[derive(Debug, Clone)]
pub struct RingReader {
    /// Number of the frame to read next.
    next: u64,
    stands: Stands,
}

/// The `id:` line of a frame: its cursor, read only when it is asked for.
#[derive(Debug, Clone)]
struct IdLine(Bytes);

/// How a viewer stands to the ring it reads.
#[derive(Debug, Clone)]
enum Stands {
    /// At the same place in all lanes: frames go out as they are. Where that is, the last of them says.
    Level { entered: Arc<Cursor>, last: Option<IdLine> },
    /// It has more than the ring in some lanes: what it has is left out, and its frames carry its
    /// own cursor.
    Ahead(Cursor),
}

impl RingReader {
    /// Enters a ring with everything seen up to `cursor`; none if the ring no longer holds all that
    /// comes after it.
    pub fn enter(ring: &Ring, cursor: &Cursor) -> Option<Self> {
        match ring.entrance(cursor) {
            Entrance::Head(next) => {
                let entered = Arc::new(cursor.clone());
                Some(Self { next, stands: Stands::Level { entered, last: None } })
            }
            Entrance::Within(next) => Some(Self { next, stands: Stands::Ahead(cursor.clone()) }),
            Entrance::Before => None,
        }
    }

    /// Number of the frame that it reads next.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Where the viewer stands.
    pub fn position(&self) -> Cursor {
        match &self.stands {
            Stands::Ahead(cursor) => cursor.clone(),
            Stands::Level { entered, last } => {
                last.as_ref().and_then(IdLine::cursor).unwrap_or_else(|| Cursor::clone(entered))
            }
        }
    }

    /// Whether it stands where the ring stands, so that frames reach it as they are.
    pub fn is_level(&self) -> bool {
        matches!(self.stands, Stands::Level { .. })
    }

    /// The next frames, at most a chunk; empty if there are none, or all were left out. None if the
    /// viewer fell out of the ring, or has part of what it tells as one.
    pub fn read(&mut self, ring: &Ring) -> Option<Bytes> {
        let frames = ring.read(self.next)?;
        match &mut self.stands {
            Stands::Level { last, .. } => {
                Some(read_level(frames, &mut self.next, last, |frame| &frame.bytes))
            }
            Stands::Ahead(cursor) => {
                let mut frames = frames.peekable();
                if frames.peek().is_some_and(|frame| frame.is_entered_by(cursor)) {
                    return None;
                }
                let chunk = read_ahead(frames, &mut self.next, cursor);
                if self.next == ring.end() && cursor == ring.head() {
                    let entered = Arc::new(std::mem::take(cursor));
                    self.stands = Stands::Level { entered, last: None };
                }
                Some(chunk)
            }
        }
    }

    /// The next frames before number `until` as HTTP/1.1 chunks, for who is level; as [`Self::read`] otherwise.
    pub fn read_chunks(&mut self, ring: &Ring, until: u64) -> Option<Bytes> {
        debug_assert!(self.is_level(), "only the level share bytes");
        let count = usize::try_from(until.saturating_sub(self.next)).unwrap_or(usize::MAX);
        let frames = ring.read(self.next)?.take(count);
        match &mut self.stands {
            Stands::Level { last, .. } => {
                Some(read_level(frames, &mut self.next, last, |frame| &frame.chunk))
            }
            Stands::Ahead(_) => None,
        }
    }
}

impl IdLine {
    fn cursor(&self) -> Option<Cursor> {
        let line = std::str::from_utf8(&self.0).ok()?;
        line.strip_prefix("id: ")?.trim_end().parse().ok()
    }
}

fn read_level<'a>(
    frames: impl Iterator<Item = &'a Frame>,
    next: &mut u64,
    last: &mut Option<IdLine>,
    form: impl Fn(&Frame) -> &Bytes,
) -> Bytes {
    let mut frames = frames.peekable();
    let Some(first) = frames.next() else { return Bytes::new() };
    let fits = |length: usize, frame: &Frame| length + form(frame).len() <= CHUNK_BYTES;
    let (mut read, mut end) = (1, first);
    let joined = if frames.peek().is_some_and(|second| fits(form(first).len(), second)) {
        let mut joined = Vec::with_capacity(CHUNK_BYTES.min(form(first).len() * 16));
        joined.extend_from_slice(form(first));
        while let Some(frame) = frames.next_if(|frame| fits(joined.len(), frame)) {
            joined.extend_from_slice(form(frame));
            (read, end) = (read + 1, frame);
        }
        joined.into()
    } else {
        // The common case: one frame, and its bytes are shared by all viewers.
        form(first).clone()
    };
    *next += read;
    *last = Some(IdLine(end.id_line()));
    joined
}

fn read_ahead<'a>(frames: impl Iterator<Item = &'a Frame>, next: &mut u64, cursor: &mut Cursor) -> Bytes {
    let mut chunk = Vec::new();
    for frame in frames {
        if chunk.len() >= CHUNK_BYTES || frame.is_entered_by(cursor) {
            break;
        }
        *next += 1;
        if let Some((lane, last)) = &frame.at {
            let seen = cursor.position(lane);
            if *last <= seen {
                continue;
            }
            cursor.set(lane, *last);
            if let Some(gap) = frame.gap.as_ref().filter(|gap| gap.first <= seen) {
                // Another replica passed on the beginning of what is gone now.
                let rest = Gap { first: seen.next(), ..Gap::clone(gap) };
                chunk.extend_from_slice(&encode(cursor, EventName::Gap, &json(&rest)).bytes);
                continue;
            }
        }
        sse::write_id(&mut chunk, &cursor.to_string());
        chunk.extend_from_slice(&frame.bytes[frame.id_len..]);
    }
    chunk.into()
}
