//! A view: what a group of viewers have asked for alike, encoded once for all of them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use runcast_protocol::merge::{Merged, merge};
use runcast_protocol::{Cursor, End, Entry, EventName, Gap, Lane, Selection, Sequence, sse};
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::chunk::ChunkBuffer;
use crate::compression::Encoding;
use crate::compression::track::Track;
use crate::ring::{Frame, Ring, RingLimits};
use crate::ring_reader::RingReader;
use crate::row::Row;
use crate::seat::{Seat, Seated};
use crate::traced::{Traced, Unsent};

/// A view of a run. The feed pushes, any number of viewers read at their own pace.
#[derive(Debug)]
pub struct View {
    selection: Selection,
    /// Whether adjacent messages that come together are told as one.
    merges: bool,
    ring: RwLock<Ring>,
    /// What the ring's end is; changes wake the viewers that do not sit.
    end: watch::Sender<Progress>,
    /// Where the viewers that are level sit.
    rows: RwLock<Vec<Arc<Row>>>,
    /// What those share whose streams are compressed, and who are level.
    tracks: RwLock<Vec<Arc<Track>>>,
    /// Sampled messages that are on their way to the first viewer.
    unsent: Unsent,
    /// Whether nobody may sit any more.
    is_cleared: AtomicBool,
    /// Whether the usher knows of it.
    is_attended: AtomicBool,
}

/// How far a view has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Number of the frame that comes next.
    pub end: u64,
    /// Whether the last frame was `end`.
    pub is_over: bool,
    /// Whether its viewers are to come back for another view.
    pub is_let_go: bool,
}

impl View {
    /// A view that stands at `head`: what lies before is its viewers' own to read.
    pub fn new(selection: Selection, head: Cursor, limits: RingLimits) -> Self {
        Self {
            selection,
            merges: false,
            ring: RwLock::new(Ring::new(head, limits)),
            end: watch::Sender::default(),
            rows: RwLock::default(),
            tracks: RwLock::default(),
            unsent: Unsent::default(),
            is_cleared: AtomicBool::new(false),
            is_attended: AtomicBool::new(false),
        }
    }

    /// The same, which tells adjacent messages that come together as one.
    #[must_use]
    pub fn merging(mut self, merges: bool) -> Self {
        self.merges = merges;
        self
    }

    /// Whether it is what viewers get who ask for this.
    pub fn serves(&self, selection: &Selection, merges: bool) -> bool {
        self.selection == *selection && self.merges == merges
    }

    /// What its viewers asked for.
    pub fn selection(&self) -> &Selection {
        &self.selection
    }

    /// The ring, for a short look.
    pub fn ring(&self) -> RwLockReadGuard<'_, Ring> {
        self.ring.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// How far the view has come, now and from now on.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.end.subscribe()
    }

    /// Whether the viewers' run, or what they chose of it, is over.
    pub fn is_over(&self) -> bool {
        self.end.borrow().is_over
    }

    /// Has the viewers come back: what they watch is not what the run has turned out to be.
    pub fn let_go(self: &Arc<Self>) {
        self.end.send_modify(|progress| progress.is_let_go = true);
        self.wake();
    }

    /// Whether the viewers are to come back.
    pub fn is_let_go(&self) -> bool {
        self.end.borrow().is_let_go
    }

    /// Passes on messages of one lane, the next ones.
    pub fn push(&self, lane: &Lane, entries: &[Entry]) {
        let merged = self.merged(lane, entries);
        self.put(&mut self.write(), lane, merged);
    }

    /// The same for a batch with sampled messages.
    pub fn push_traced(&self, lane: &Lane, entries: &[Entry], batch: &Traced) {
        let encoding = batch.encode();
        let merged = self.merged(lane, entries);
        let mut ring = self.write();
        let before = ring.end();
        self.put(&mut ring, lane, merged);
        drop(encoding);
        // With the ring still held, so that nobody has read it who is waited for.
        if ring.end() > before {
            self.unsent.wait_for(ring.end() - 1, batch);
        }
    }

    fn merged(&self, lane: &Lane, entries: &[Entry]) -> Vec<Merged> {
        let single = |entry: &Entry| Merged { first: entry.sequence, entry: entry.clone() };
        if self.merges { merge(lane, entries) } else { entries.iter().map(single).collect() }
    }

    fn put(&self, ring: &mut Ring, lane: &Lane, merged: Vec<Merged>) {
        let name = EventName::Message(lane.channel.message_type());
        for Merged { first, entry } in merged {
            if self.selection.has_variation(&entry.variation) {
                let frame = encode(ring.advance(lane, entry.sequence), name, &entry.line);
                ring.push(Frame { first, at: Some((lane.clone(), entry.sequence)), ..frame });
            } else {
                ring.skip(lane, entry.sequence);
            }
        }
    }

    /// Some viewer has been sent all frames before number `next`, for all that is known here: the connection
    /// has them.
    pub fn sent(&self, next: u64) {
        self.unsent.sent(next);
    }

    /// Tells of messages that can no longer be had.
    pub fn push_gap(&self, gap: &Gap) {
        let mut ring = self.write();
        let frame = encode(ring.advance(&gap.lane, gap.last), EventName::Gap, &json(gap));
        ring.push(Frame {
            at: Some((gap.lane.clone(), gap.last)),
            gap: Some(Box::new(gap.clone())),
            ..frame
        });
    }

    /// Tells that it is over; nothing may follow.
    pub fn push_end(&self, end: &End) {
        let mut ring = self.write();
        let frame = encode(ring.head(), EventName::End, &json(end));
        ring.push(frame);
        // With the ring still held, so that nobody who sees the news finds an older ring.
        self.end.send_modify(|progress| progress.is_over = true);
    }

    /// Has the viewers see what was pushed. Not part of the pushing: what comes together is to go out
    /// together.
    pub fn flush(self: &Arc<Self>) {
        let end = self.ring().end();
        let changed = self.end.send_if_modified(|progress| std::mem::replace(&mut progress.end, end) != end);
        if changed {
            self.wake();
        }
    }

    /// Gives a viewer a seat that reads on as `reader` does, which must be level with the ring.
    pub fn sit(self: &Arc<Self>, socket: Arc<TcpStream>, reader: RingReader) -> Seated {
        let row = self.row(&reader);
        let (seat, risen) = Seat::new(socket);
        row.sit(self, seat, reader);
        Seated::new(risen, row, self.clone())
    }

    /// The track of those who want this encoding.
    pub fn track(&self, encoding: Encoding) -> Arc<Track> {
        let mut tracks = self.tracks.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(track) = tracks.iter().find(|track| track.encoding() == encoding) {
            return track.clone();
        }
        let track = Arc::new(Track::new(encoding));
        tracks.push(track.clone());
        track
    }

    /// Sends a heartbeat to who sits and has heard nothing for `silence`.
    pub fn beat(self: &Arc<Self>, silence: Duration) {
        for row in &self.rows() {
            row.beat(self, silence);
        }
        for track in self.tracks().iter() {
            track.beat(silence);
        }
    }

    /// Has everybody get up who sits, for good.
    pub fn clear(self: &Arc<Self>) {
        self.is_cleared.store(true, Ordering::Relaxed);
        self.wake();
    }

    /// Whether this is the first time that it is asked.
    pub(crate) fn is_first_attended(&self) -> bool {
        !self.is_attended.swap(true, Ordering::Relaxed)
    }

    /// Whether viewers may sit: there is more to come.
    pub fn has_seats(&self) -> bool {
        let progress = *self.end.borrow();
        !progress.is_over && !progress.is_let_go && !self.is_cleared.load(Ordering::Relaxed)
    }

    fn row(&self, reader: &RingReader) -> Arc<Row> {
        let mut rows = self.rows.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(row) = rows.iter().find(|row| row.has_room()) {
            return row.clone();
        }
        let row = Arc::new(Row::new(reader.clone()));
        rows.push(row.clone());
        row
    }

    fn rows(&self) -> Vec<Arc<Row>> {
        self.rows.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn wake(self: &Arc<Self>) {
        for row in &self.rows() {
            row.wake(self);
        }
        for track in self.tracks().iter() {
            track.wake();
        }
    }

    fn tracks(&self) -> RwLockReadGuard<'_, Vec<Arc<Track>>> {
        self.tracks.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Ring> {
        self.ring.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Encodes a frame that stands at no lane yet.
pub fn encode(cursor: &Cursor, event: EventName, data: &[u8]) -> Frame {
    let mut buffer = ChunkBuffer::new(data.len() + 128);
    sse::write_id(buffer.data(), &cursor.to_string());
    let id_len = buffer.len();
    sse::write_event(buffer.data(), event, data);
    let (chunk, bytes) = buffer.finish();
    Frame { at: None, first: Sequence::NONE, bytes, chunk, id_len, gap: None }
}

/// JSON text of one of Runcast's own events.
pub fn json<T: serde::Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("events are made of JSON types")
}
