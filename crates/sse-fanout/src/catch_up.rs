//! A viewer behind the ring: reading the streams, each lane in turn, until the ring holds the rest.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use runcast_bus::{Found, Item, PAUSE};
use runcast_protocol::merge::{Merged, merge};
use runcast_protocol::{Channel, Cursor, Entry, EventName, Gap, Lane, sse};

use crate::live::Live;
use crate::pages::SharedPage;
use crate::past::Past;
use crate::ring_reader::RingReader;
use crate::shared_reader::{SharedReader, Turned};
use crate::view::json;
use crate::viewer::{Phase, Step};

/// What goes out at once, unless one frame is larger: what a viewer that takes nothing costs beside the
/// page, which others have too.
const CHUNK_BYTES: usize = 64 << 10;

/// A viewer behind the ring.
#[derive(Debug)]
pub struct CatchUp {
    past: Past,
    cursor: Cursor,
    /// The lanes that are behind, in turn.
    readers: VecDeque<SharedReader>,
    /// What was read last, and is still to be told.
    read: Option<Read>,
}

/// What was read of a lane.
#[derive(Debug)]
struct Read {
    lane: Lane,
    /// As it was read.
    items: Vec<Item>,
    /// Where that was.
    page: Option<Arc<SharedPage>>,
    /// As it is told.
    said: VecDeque<Said>,
}

/// What is told in one frame.
#[derive(Debug)]
enum Said {
    Message(Entry),
    Gap(Gap),
}

impl CatchUp {
    /// A viewer that has seen everything up to `cursor`.
    pub fn new(past: Past, cursor: Cursor) -> Self {
        Self { past, cursor, readers: VecDeque::new(), read: None }
    }

    /// Of what.
    pub fn past(&self) -> &Past {
        &self.past
    }

    /// Where the viewer stands.
    pub fn cursor(&self) -> &Cursor {
        &self.cursor
    }

    /// Enters the ring if it holds all that is missing, else reads a page.
    pub async fn step(&mut self) -> Step {
        loop {
            if self.past.view.is_let_go() {
                return Step::Over;
            }
            if self.read.is_some() {
                let frames = self.encode().await;
                if !frames.is_empty() {
                    return Step::Frames(frames);
                }
            } else if let Some(live) = self.enter() {
                return Step::Enter(Box::new(Phase::Live(live)));
            } else {
                self.read().await;
            }
        }
    }

    fn enter(&mut self) -> Option<Live> {
        let reader = RingReader::enter(&self.past.view.ring(), &self.cursor);
        if reader.is_none() {
            self.line_up();
        }
        Some(Live::new(self.past.clone(), reader?))
    }

    /// Lines up the lanes that lie behind the view, unless some are lined up already.
    fn line_up(&mut self) {
        self.readers
            .retain(|reader| reader.position() < self.past.view.ring().head().position(reader.lane()));
        if self.readers.is_empty() {
            let head = self.past.view.ring().head().clone();
            let behind = head.lanes().filter(|(lane, position)| self.cursor.position(lane) < *position);
            self.readers = behind
                .map(|(lane, _)| SharedReader::new(lane.clone(), self.cursor.position(&lane)))
                .collect();
        }
    }

    /// Reads a page of the first lane that has one.
    async fn read(&mut self) {
        for _ in 0..self.readers.len() {
            let Some(reader) = self.readers.front_mut() else { break };
            let lane = reader.lane().clone();
            let upto = self.past.view.ring().head().position(&lane);
            let found = reader.page(&self.past.pages, upto).await;
            let reader = self.readers.pop_front();
            self.readers.extend(reader);
            match found {
                Ok(Turned { found: Found::Items(items), page }) => {
                    self.read = Some(Read { lane, items, page, said: VecDeque::new() });
                    return;
                }
                Ok(Turned { found: Found::NotYet, .. }) => {}
                Err(error) => {
                    tracing::debug!(run = %self.past.pages.run(), %lane, %error, "could not read the stream");
                }
            }
        }
        tokio::time::sleep(PAUSE).await;
    }

    /// Some of what is ready, when it is its turn; empty if the view's viewers do not see it.
    async fn encode(&mut self) -> Bytes {
        let _turn = self.past.pages.viewers_turn().await;
        let mut frames = Vec::new();
        let Some(mut read) = self.read.take() else { return Bytes::new() };
        read.prepare(self.past.merges);
        let lane = &read.lane;
        while frames.len() < CHUNK_BYTES
            && let Some(said) = read.said.pop_front()
        {
            let (last, shown) = match &said {
                Said::Message(entry) => {
                    (entry.sequence, self.past.view.selection().has_variation(&entry.variation))
                }
                Said::Gap(gap) => (gap.last, true),
            };
            self.cursor.set(lane, last);
            if shown {
                self.write(&mut frames, lane, &said);
            }
        }
        self.read = Some(read).filter(|read| !read.said.is_empty());
        frames.into()
    }

    fn write(&self, frames: &mut Vec<u8>, lane: &Lane, said: &Said) {
        let id = self.cursor.to_string();
        match said {
            Said::Message(entry) => {
                sse::write_frame(frames, &id, EventName::Message(lane.channel.message_type()), &entry.line);
            }
            Said::Gap(gap) => sse::write_frame(frames, &id, EventName::Gap, &json(gap)),
        }
    }
}

impl Read {
    /// Makes what is told of what was read.
    fn prepare(&mut self, merges: bool) {
        let items = std::mem::take(&mut self.items);
        if merges && self.lane.channel == Channel::Output {
            self.said.extend(merged(&self.lane, items, self.page.as_deref()));
        } else {
            self.said.extend(items.into_iter().map(Said::from));
        }
        self.page = None;
    }
}

impl From<Item> for Said {
    fn from(item: Item) -> Self {
        match item {
            Item::Message(entry) => Self::Message(entry),
            Item::Gap(gap) => Self::Gap(gap),
        }
    }
}

impl From<Merged> for Said {
    fn from(merged: Merged) -> Self {
        Self::Message(merged.entry)
    }
}

/// As few frames as can be. What the page's readers all get alike was merged once for all of them; only where
/// this one stands within such a message, or goes no further, it is merged for him.
fn merged(lane: &Lane, items: Vec<Item>, page: Option<&SharedPage>) -> Vec<Said> {
    let mut said = Vec::new();
    for messages in items.chunk_by(|a, b| matches!((a, b), (Item::Message(_), Item::Message(_)))) {
        let entry = |item: &Item| match item {
            Item::Message(entry) => Some(entry.clone()),
            Item::Gap(_) => None,
        };
        let entries: Vec<Entry> = messages.iter().filter_map(entry).collect();
        if let (Some(first), Some(last)) = (entries.first(), entries.last()) {
            let whole =
                |merged: &&Merged| merged.first >= first.sequence && merged.entry.sequence <= last.sequence;
            let known = page.map_or(&[][..], |page| page.merged(lane)).iter().filter(whole);
            said.extend(around(lane, &entries, known).into_iter().map(Said::from));
        } else {
            said.extend(messages.iter().cloned().map(Said::from));
        }
    }
    said
}

/// The messages that are merged already, in order, and what lies around them.
fn around<'a>(lane: &Lane, entries: &[Entry], known: impl Iterator<Item = &'a Merged>) -> Vec<Merged> {
    let (mut rest, mut all) = (entries, Vec::new());
    for merged in known {
        let before = rest.partition_point(|entry| entry.sequence < merged.first);
        all.extend(merge(lane, &rest[..before]));
        all.push(merged.clone());
        rest = &rest[rest.partition_point(|entry| entry.sequence <= merged.entry.sequence)..];
    }
    all.extend(merge(lane, rest));
    all
}
