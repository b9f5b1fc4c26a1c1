//! A viewer behind the ring: reading the streams, each lane in turn, until the ring holds the rest.

use std::collections::VecDeque;

use bytes::Bytes;
use runcast_protocol::{Cursor, EventName, Lane, sse};

use runcast_bus::{Found, Item, LaneReader, PAUSE, Scan};

use crate::live::Live;
use crate::past::Past;
use crate::ring_reader::RingReader;
use crate::view::json;
use crate::viewer::{Phase, Step};

/// A viewer behind the ring.
#[derive(Debug)]
pub struct CatchUp {
    past: Past,
    cursor: Cursor,
    /// The lanes that are behind, in turn.
    readers: VecDeque<LaneReader>,
}

impl CatchUp {
    /// A viewer that has seen everything up to `cursor`.
    pub fn new(past: Past, cursor: Cursor) -> Self {
        Self { past, cursor, readers: VecDeque::new() }
    }

    /// Enters the ring if it holds all that is missing, else reads a page.
    pub async fn step(&mut self) -> Step {
        loop {
            if self.past.view.is_let_go() {
                return Step::Over;
            }
            if let Some(live) = self.enter() {
                return Step::Enter(Box::new(Phase::Live(live)));
            }
            let frames = self.read().await;
            if !frames.is_empty() {
                return Step::Frames(frames);
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
                .map(|(lane, _)| LaneReader::new(lane.clone(), self.cursor.position(&lane), Scan::default()))
                .collect();
        }
    }

    /// Reads a page of the first lane that has one.
    async fn read(&mut self) -> Bytes {
        for _ in 0..self.readers.len() {
            let Some(reader) = self.readers.front_mut() else { break };
            let lane = reader.lane().clone();
            let upto = self.past.view.ring().head().position(&lane);
            let found = reader.page(&self.past.bus, &self.past.run, upto).await;
            let reader = self.readers.pop_front();
            self.readers.extend(reader);
            match found {
                Ok(Found::Items(items)) => return self.encode(&lane, items),
                Ok(Found::NotYet) => {}
                Err(error) => {
                    tracing::debug!(run = %self.past.run, %lane, %error, "could not read the stream");
                }
            }
        }
        tokio::time::sleep(PAUSE).await;
        Bytes::new()
    }

    fn encode(&mut self, lane: &Lane, items: Vec<Item>) -> Bytes {
        let mut frames = Vec::new();
        for item in items {
            let (last, shown) = match &item {
                Item::Message(entry) => {
                    (entry.sequence, self.past.view.selection().has_variation(&entry.variation))
                }
                Item::Gap(gap) => (gap.last, true),
            };
            self.cursor.set(lane, last);
            if shown {
                self.write(&mut frames, lane, &item);
            }
        }
        frames.into()
    }

    fn write(&self, frames: &mut Vec<u8>, lane: &Lane, item: &Item) {
        let id = self.cursor.to_string();
        match item {
            Item::Message(entry) => {
                sse::write_frame(frames, &id, EventName::Message(lane.channel.message_type()), &entry.line);
            }
            Item::Gap(gap) => sse::write_frame(frames, &id, EventName::Gap, &json(gap)),
        }
    }
}
