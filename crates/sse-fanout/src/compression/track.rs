//! What all viewers of a view who are level with it, and have asked for the same encoding, share: its frames,
//! compressed once.
//!
//! Whoever comes first to read what is new compresses it. Viewers enter where a passage begins; one is begun
//! for those who want to enter, but not for every one of them, or nothing would be left to compress.

use std::collections::VecDeque;
use std::io;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use runcast_protocol::sse;
use tokio::sync::watch;

use crate::compression::Encoding;
use crate::compression::passage::{Passage, Piece};
use crate::ring_reader::RingReader;
use crate::view::View;

/// A passage has so many plain bytes at least before another is begun. What is much alike is compressed well after
/// a few KiB, so that a new passage costs about as much more.
const PASSAGE: usize = 16 << 10;
/// Compressed bytes that are kept for those who are slow; then they go their own way.
const KEPT: usize = 64 << 10;

/// The shared passages of a view.
#[derive(Debug)]
pub struct Track {
    encoding: Encoding,
    state: RwLock<State>,
    /// Changes when there may be something to read, or to hear.
    news: watch::Sender<()>,
}

#[derive(Debug)]
struct State {
    passage: Option<Passage>,
    /// Where it stands in the view's ring; none before anybody has entered.
    reader: Option<RingReader>,
    pieces: VecDeque<Shared>,
    /// Number of the first piece held.
    start: u64,
    bytes: usize,
    spoke: Instant,
}

#[derive(Debug, Clone)]
struct Shared {
    piece: Piece,
    /// Where who has read it stands.
    after: RingReader,
}

/// A viewer's place on a track.
#[derive(Debug)]
pub struct Place {
    next: u64,
    news: watch::Receiver<()>,
}

/// What there is for a viewer.
#[derive(Debug)]
pub enum Read {
    /// The next piece, after which it stands there.
    Piece(Piece, RingReader),
    /// Nothing now.
    Nothing,
    /// It is too slow for the others: it has to go its own way.
    Left,
}

impl Track {
    /// One that nobody reads yet.
    pub fn new(encoding: Encoding) -> Self {
        let (pieces, spoke) = (VecDeque::new(), Instant::now());
        let state = State { passage: None, reader: None, pieces, start: 0, bytes: 0, spoke };
        Self { encoding, state: RwLock::new(state), news: watch::Sender::default() }
    }

    /// What it is compressed with.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Has those who are here look.
    pub fn wake(&self) {
        self.news.send_replace(());
    }

    /// Has everybody get a heartbeat if there was nothing to say for `silence`.
    pub fn beat(&self, silence: Duration) {
        if self.news.receiver_count() == 0 || self.read_state().spoke.elapsed() < silence {
            return;
        }
        let mut state = self.write_state();
        if let Some(after) = state.reader.clone()
            && let Err(error) = state.write(sse::HEARTBEAT, after)
        {
            tracing::error!(%error, "a heartbeat cannot be compressed");
            state.abandon();
        }
        drop(state);
        self.wake();
    }

    /// Lets in a viewer that reads as `reader` does and is level; none if it cannot enter now.
    ///
    /// # Errors
    /// If there is no memory for a passage.
    pub fn enter(&self, view: &View, reader: &RingReader) -> io::Result<Option<Place>> {
        let mut state = self.write_state();
        let is_alone = self.news.receiver_count() == 0;
        // What the others have yet to read must not be left out for them.
        while !is_alone
            && state.reader.as_ref().is_some_and(|there| there.next() < reader.next())
            && state.compress(view)?
        {}
        let is_there = state.reader.as_ref().is_some_and(|there| there.next() == reader.next());
        let begun = state.passage.as_ref().map_or(usize::MAX, Passage::written);
        if !is_alone && !(is_there && (begun == 0 || begun >= PASSAGE)) {
            return Ok(None);
        }
        if begun > 0 {
            state.passage = Some(Passage::new(self.encoding)?);
        }
        state.reader = Some(reader.clone());
        Ok(Some(Place { next: state.end(), news: self.news.subscribe() }))
    }

    /// What there is to read at a place.
    ///
    /// # Errors
    /// If the library fails.
    pub fn read(&self, view: &View, place: &mut Place) -> io::Result<Read> {
        {
            let state = self.read_state();
            match state.read(place) {
                Some(read) => return Ok(read),
                None if !state.is_behind(view) => return Ok(Read::Nothing),
                None => {}
            }
        }
        let mut state = self.write_state();
        state.compress(view)?;
        Ok(state.read(place).unwrap_or(Read::Nothing))
    }

    fn read_state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_state(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Waits until there may be something to read.
    pub async fn news(&mut self) {
        // Whoever sends is in the track, which the viewer's view holds.
        let _ = self.news.changed().await;
    }
}

impl State {
    /// Number of the piece that comes next.
    fn end(&self) -> u64 {
        self.start + self.pieces.len() as u64
    }

    /// None if there is nothing yet.
    fn read(&self, place: &mut Place) -> Option<Read> {
        let Some(index) = place.next.checked_sub(self.start) else { return Some(Read::Left) };
        let Shared { piece, after } = self.pieces.get(usize::try_from(index).ok()?)?;
        place.next += 1;
        Some(Read::Piece(piece.clone(), after.clone()))
    }

    /// Whether the ring has something new.
    fn is_behind(&self, view: &View) -> bool {
        self.reader.as_ref().is_some_and(|reader| reader.next() < view.ring().end())
    }

    /// Compresses what the ring has; false if there is nothing.
    fn compress(&mut self, view: &View) -> io::Result<bool> {
        let Some(mut reader) = self.reader.clone() else { return Ok(false) };
        let Some(plain) = reader.read(&view.ring()) else {
            // Nobody came for so long that the ring has gone on.
            self.abandon();
            return Ok(false);
        };
        if plain.is_empty() {
            return Ok(false);
        }
        let next = reader.next();
        self.reader = Some(reader.clone());
        self.write(&plain, reader).inspect_err(|_| self.abandon())?;
        view.sent(next);
        Ok(true)
    }

    /// Has everybody go their own way.
    fn abandon(&mut self) {
        (self.start, self.bytes) = (self.end() + 1, 0);
        (self.reader, self.passage) = (None, None);
        self.pieces.clear();
    }

    fn write(&mut self, plain: &[u8], after: RingReader) -> io::Result<()> {
        let Some(passage) = &mut self.passage else { return Ok(()) };
        let piece = passage.write(plain)?;
        self.spoke = Instant::now();
        self.bytes += piece.bytes.len();
        self.pieces.push_back(Shared { piece, after });
        while self.bytes > KEPT
            && self.pieces.len() > 1
            && let Some(dropped) = self.pieces.pop_front()
        {
            self.bytes -= dropped.piece.bytes.len();
            self.start += 1;
        }
        Ok(())
    }
}
