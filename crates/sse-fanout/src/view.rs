//! A view: what a group of viewers have asked for alike, encoded once for all of them.

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;
use runcast_protocol::merge::{Merged, merge};
use runcast_protocol::{Cursor, End, Entry, EventName, Gap, Lane, Selection, Sequence, sse};
use tokio::sync::watch;

use crate::ring::{Frame, Ring, RingLimits};

/// A view of a run. The feed pushes, any number of viewers read at their own pace.
#[derive(Debug)]
pub struct View {
    selection: Selection,
    /// Whether adjacent messages that come together are told as one.
    merges: bool,
    ring: RwLock<Ring>,
    /// What the ring's end is; changes wake the viewers.
    end: watch::Sender<Progress>,
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
    pub fn let_go(&self) {
        self.end.send_modify(|progress| progress.is_let_go = true);
    }

    /// Whether the viewers are to come back.
    pub fn is_let_go(&self) -> bool {
        self.end.borrow().is_let_go
    }

    /// Passes on messages of one lane, the next ones.
    pub fn push(&self, lane: &Lane, entries: &[Entry]) {
        let name = EventName::Message(lane.channel.message_type());
        let single = |entry: &Entry| Merged { first: entry.sequence, entry: entry.clone() };
        let merged = if self.merges { merge(lane, entries) } else { entries.iter().map(single).collect() };
        let mut ring = self.write();
        for Merged { first, entry } in merged {
            if self.selection.has_variation(&entry.variation) {
                let frame = encode(ring.advance(lane, entry.sequence), name, &entry.line);
                ring.push(Frame { first, at: Some((lane.clone(), entry.sequence)), ..frame });
            } else {
                ring.skip(lane, entry.sequence);
            }
        }
        self.tell(&ring, false);
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
        self.tell(&ring, false);
    }

    /// Tells that it is over; nothing may follow.
    pub fn push_end(&self, end: &End) {
        let mut ring = self.write();
        let frame = encode(ring.head(), EventName::End, &json(end));
        ring.push(frame);
        self.tell(&ring, true);
    }

    fn write(&self) -> RwLockWriteGuard<'_, Ring> {
        self.ring.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Called with the ring still held, so that nobody who sees the news finds an older ring.
    fn tell(&self, ring: &Ring, is_over: bool) {
        self.end.send_modify(|progress| {
            progress.end = ring.end();
            progress.is_over = is_over;
        });
    }
}

/// Encodes a frame that stands at no lane yet.
pub fn encode(cursor: &Cursor, event: EventName, data: &[u8]) -> Frame {
    let mut bytes = Vec::with_capacity(data.len() + 128);
    sse::write_id(&mut bytes, &cursor.to_string());
    let id_len = bytes.len();
    sse::write_event(&mut bytes, event, data);
    Frame { at: None, first: Sequence::NONE, bytes: Bytes::from(bytes), id_len, gap: None }
}

/// JSON text of one of Runcast's own events.
pub fn json<T: serde::Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("events are made of JSON types")
}
