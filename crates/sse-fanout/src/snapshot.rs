//! `from=snapshot`: what each lane said so far, at once, and then live.
//!
//! A lane's text is read from its stored snapshots as far as they go, which another service writes, and
//! from the lane itself for the rest: what lies beyond them, and in holes between them, which are of
//! messages that could not be had. A viewer sees the same either way.

use std::collections::VecDeque;

use bytes::Bytes;
use runcast_bus::{Found, Item, PAUSE, SnapshotEntry};
use runcast_protocol::{Channel, Cursor, Entry, EventName, Json, Lane, Sequence, Snapshot};

use crate::catch_up::CatchUp;
use crate::past::Past;
use crate::shared_reader::SharedReader;
use crate::view::{encode, json};
use crate::viewer::{Phase, Step};

/// Stored snapshots that are read at once; each is some hundreds of KiB of text.
const STORED_AT_ONCE: u64 = 4;

/// A viewer that gets snapshots: the text of each output lane, the last message of each status
/// lane. The other lanes begin live. A text above the limit comes as several snapshots, one after
/// the other.
#[derive(Debug)]
pub struct Snapshots {
    past: Past,
    /// Where the viewer stands after what was sent.
    cursor: Cursor,
    lanes: VecDeque<(Lane, Sequence)>,
    current: Option<Gathering>,
    /// Frames that go out before anything more is read.
    ready: VecDeque<Bytes>,
    limit: usize,
}

/// One lane's snapshot in the making.
#[derive(Debug)]
struct Gathering {
    reader: SharedReader,
    upto: Sequence,
    /// Stored snapshots that come next.
    stored: VecDeque<SnapshotEntry>,
    /// Whether there are more of them.
    more_stored: bool,
    /// First and last message that the next snapshot stands for.
    span: Option<(Sequence, Sequence)>,
    text: String,
    message: Option<Json>,
}

impl Snapshots {
    /// Snapshots of the lanes up to `head`, each of at most about `limit` bytes of text.
    pub fn new(past: Past, head: &Cursor, limit: usize) -> Self {
        let (mut told, skipped): (Vec<_>, Vec<_>) =
            head.lanes().partition(|(lane, _)| matches!(lane.channel, Channel::Output | Channel::Status));
        // States first: they are small, and say what to expect of the text.
        told.sort_by_key(|(lane, _)| lane.channel != Channel::Status);
        let cursor = skipped.into_iter().collect();
        Self { past, cursor, lanes: told.into(), current: None, ready: VecDeque::new(), limit }
    }

    /// Of what.
    pub fn past(&self) -> &Past {
        &self.past
    }

    /// Where the viewer stands.
    pub fn cursor(&self) -> &Cursor {
        &self.cursor
    }

    /// The next snapshot or gap, in one frame.
    pub async fn step(&mut self) -> Step {
        loop {
            if let Some(frame) = self.ready.pop_front() {
                return Step::Frames(frame);
            }
            let Some(current) = &mut self.current else {
                let Some((lane, upto)) = self.lanes.pop_front() else {
                    let catch_up = CatchUp::new(self.past.clone(), self.cursor.clone());
                    return Step::Enter(Box::new(Phase::CatchUp(catch_up)));
                };
                self.current = Some(Gathering::new(lane, upto));
                continue;
            };
            if current.reader.position() >= current.upto {
                self.finish();
                self.current = None;
                continue;
            }
            if current.more_stored && current.stored.is_empty() {
                let (run, lane) = (self.past.pages.run(), current.reader.lane());
                let after = current.reader.position();
                let stored = self.past.pages.bus().snapshots(run, lane, after, STORED_AT_ONCE).await;
                current.offer(stored.unwrap_or_else(|error| {
                    tracing::debug!(%run, %lane, %error, "could not read stored snapshots");
                    Vec::new()
                }));
            }
            if current.take_stored() {
                if current.text.len() >= self.limit {
                    self.finish();
                }
                continue;
            }
            let upto = current.before_stored();
            match current.reader.page(&self.past.pages, upto).await.map(|turned| turned.found) {
                Ok(Found::Items(items)) => self.gather(items),
                Ok(Found::NotYet) => tokio::time::sleep(PAUSE).await,
                Err(error) => {
                    tracing::debug!(run = %self.past.pages.run(), %error, "could not read the stream");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    fn gather(&mut self, items: Vec<Item>) {
        for item in items {
            match item {
                Item::Message(entry) => {
                    let full = self
                        .current
                        .as_mut()
                        .is_some_and(|current| current.add(&entry, self.limit, &self.past));
                    if full {
                        self.finish();
                    }
                }
                Item::Gap(gap) => {
                    self.finish();
                    self.cursor.set(&gap.lane, gap.last);
                    self.ready.push_back(encode(&self.cursor, EventName::Gap, &json(&gap)).bytes);
                }
            }
        }
    }

    /// Makes a frame of what was gathered.
    fn finish(&mut self) {
        let Some(snapshot) = self.current.as_mut().and_then(Gathering::take) else { return };
        self.cursor.set(&snapshot.lane, snapshot.last);
        if snapshot.text.is_some() || snapshot.message.is_some() {
            self.ready.push_back(encode(&self.cursor, EventName::Snapshot, &json(&snapshot)).bytes);
        }
    }
}

impl Gathering {
    fn new(lane: Lane, upto: Sequence) -> Self {
        let more_stored = lane.channel == Channel::Output;
        let reader = SharedReader::new(lane, Sequence::NONE);
        let (span, text, message) = (None, String::new(), None);
        Self { reader, upto, stored: VecDeque::new(), more_stored, span, text, message }
    }

    /// Takes in the stored snapshots that were read, as far as they belong to what is asked for.
    fn offer(&mut self, stored: Vec<SnapshotEntry>) {
        self.more_stored = stored.len() as u64 == STORED_AT_ONCE;
        for entry in stored {
            if entry.last > self.upto {
                self.more_stored = false;
                break;
            }
            self.stored.push_back(entry);
        }
    }

    /// Takes the next stored snapshot, if that is what comes next.
    fn take_stored(&mut self) -> bool {
        let next = self.reader.position().next();
        if self.stored.front().is_some_and(|entry| entry.first < next) {
            // They lie one over another, as they never should: the lane has it all.
            self.stored.clear();
            self.more_stored = false;
        }
        if self.stored.front().is_none_or(|entry| entry.first != next) {
            return false;
        }
        let Some(entry) = self.stored.pop_front() else { return false };
        let (first, _) = self.span.unwrap_or((entry.first, entry.last));
        self.span = Some((first, entry.last));
        self.text.push_str(&entry.text);
        self.reader = SharedReader::new(self.reader.lane().clone(), entry.last);
        true
    }

    /// How far the lane itself is to be read: up to the next stored snapshot.
    fn before_stored(&self) -> Sequence {
        self.stored.front().map_or(self.upto, |entry| entry.first.previous())
    }

    /// Adds a message; true if there is enough for a snapshot.
    fn add(&mut self, entry: &Entry, limit: usize, past: &Past) -> bool {
        let (first, _) = self.span.unwrap_or((entry.sequence, entry.sequence));
        self.span = Some((first, entry.sequence));
        if self.reader.lane().channel == Channel::Output {
            self.text.push_str(&entry.text().unwrap_or_default());
        } else if past.view.selection().has_variation(&entry.variation) {
            self.message = std::str::from_utf8(&entry.line).ok().and_then(|line| Json::parse(line).ok());
        }
        self.text.len() >= limit
    }

    fn take(&mut self) -> Option<Snapshot> {
        let (first, last) = self.span.take()?;
        let lane = self.reader.lane().clone();
        let text = (lane.channel == Channel::Output).then(|| std::mem::take(&mut self.text));
        Some(Snapshot { lane, first, last, text, message: self.message.take() })
    }
}
