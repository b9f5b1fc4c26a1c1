//! What a viewer has seen, checked as it comes.

use std::collections::BTreeMap;

use runcast_protocol::{Cursor, Dismissed, End, Gap, Lane, Message, MessageType, sse};

/// What a viewer has seen, over all its connections. Checks by itself that each lane's messages
/// come once and in order, and that the ids say what was seen.
#[derive(Debug, Default)]
pub struct History {
    positions: BTreeMap<Lane, u64>,
    texts: BTreeMap<String, String>,
    /// Messages that were not output.
    pub others: Vec<Message>,
    /// Gaps that were told.
    pub gaps: Vec<Gap>,
    /// The end, if it came.
    pub end: Option<End>,
    /// Why it was let go before the end, if it was.
    pub dismissed: Option<String>,
    /// Number of messages, each of those that came as one.
    pub messages: usize,
    /// Number of events that were messages.
    pub events: usize,
}

impl History {
    /// Takes in an event.
    ///
    /// # Panics
    /// If it is out of order, repeated, or leaves something out without a gap.
    pub fn take(&mut self, event: &sse::Event) {
        match event.event.as_str() {
            "end" => match serde_json::from_str::<Dismissed>(&event.data) {
                Ok(Dismissed { reason }) => self.dismissed = Some(reason),
                Err(_) => self.end = Some(serde_json::from_str(&event.data).expect("an end")),
            },
            "gap" => {
                let gap: Gap = serde_json::from_str(&event.data).expect("a gap");
                let position = self.positions.entry(gap.lane.clone()).or_default();
                assert_eq!(gap.first.get(), *position + 1, "{}: a gap that is not next", gap.lane);
                *position = gap.last.get();
                self.gaps.push(gap);
            }
            "start" => {}
            "snapshot" => {
                let snapshot: runcast_protocol::Snapshot =
                    serde_json::from_str(&event.data).expect("a snapshot");
                self.positions.insert(snapshot.lane.clone(), snapshot.last.get());
                if let (Some(text), Some(variation)) = (snapshot.text, snapshot.lane.writer.variation()) {
                    self.texts.entry(variation.to_string()).or_default().push_str(&text);
                }
            }
            _ => self.take_message(event),
        }
        let cursor: Cursor = event.id.parse().expect("an id is a cursor");
        for (lane, position) in cursor.lanes() {
            if let Some(seen) = self.positions.get(&lane) {
                assert_eq!(*seen, position.get(), "{lane}: the id says something else than what was seen");
            }
        }
    }

    fn take_message(&mut self, event: &sse::Event) {
        let message = Message::parse(event.data.as_bytes()).expect("a message");
        let lane = message.lane();
        let position = self.positions.entry(lane.clone()).or_default();
        let first = message.first_sequence().get();
        assert_eq!(first, *position + 1, "{lane}: lost, repeated or out of order");
        *position = message.sequence.get();
        self.events += 1;
        let several = message.sequence.get().checked_sub(first).expect("the first is not after the last");
        self.messages += usize::try_from(several).expect("so many fit") + 1;
        if message.kind == MessageType::Output {
            let text = message.content.to_text().expect("output is text");
            self.texts.entry(message.variation_id.to_string()).or_default().push_str(&text);
        } else {
            self.others.push(message);
        }
    }

    /// All that a variation said.
    pub fn text(&self, variation: &str) -> &str {
        self.texts.get(variation).map_or("", String::as_str)
    }

    /// The last sequence seen in a lane.
    pub fn position(&self, lane: &str) -> u64 {
        self.positions.get(&lane.parse().expect("a lane")).copied().unwrap_or(0)
    }

    /// Takes positions as seen, for a viewer that begins elsewhere than at the beginning.
    pub fn begin_at(&mut self, cursor: &Cursor) {
        self.positions = cursor.lanes().map(|(lane, position)| (lane, position.get())).collect();
    }
}
