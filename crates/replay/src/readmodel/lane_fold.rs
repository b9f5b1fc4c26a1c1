//! What one lane adds to a run's read model. Pure.

use std::collections::BTreeMap;

use runcast_protocol::{Channel, Entry, Json, State, Status, VariationId, timestamp};
use serde::{Deserialize, Serialize};

use super::errors::{ErrorLog, error_in_log, error_in_status};

/// Characters of output that are kept as a variation's last words.
const LAST_WORDS: usize = 200;

/// What one lane said. Times are microseconds since the epoch, and never go back within a lane: a
/// message counts as said not before the one before it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct LaneFold {
    pub(super) missing: u64,
    /// Time of the last message.
    pub(super) clock: Option<i64>,
    pub(super) errors: ErrorLog,
    /// How many variations the run has at least, as this lane says.
    pub(super) expected: u32,
    /// By the variation that messages are about: in the control-plane's lanes these are several.
    pub(super) about: BTreeMap<VariationId, Tally>,
}

/// What one lane said about one variation.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Tally {
    pub(super) messages: u64,
    pub(super) bytes: u64,
    /// Times of the first and the last message.
    pub(super) first: Option<i64>,
    pub(super) last: Option<i64>,
    /// What the agent says that its output has; none if it does not say.
    pub(super) tokens: Option<u64>,
    /// When it was first said to be running.
    pub(super) running: Option<i64>,
    pub(super) status: Option<Said>,
    pub(super) last_words: String,
}

/// The last status that a lane said of a variation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Said {
    pub(super) at: i64,
    #[serde(flatten)]
    pub(super) status: Status,
}

/// What is looked at of a message.
#[derive(Deserialize)]
struct Look {
    timestamp: timestamp::Text,
    content: Json,
    #[serde(default)]
    metadata: Option<Json>,
}

impl LaneFold {
    pub(super) fn lose(&mut self, count: u64) {
        self.missing = self.missing.saturating_add(count);
    }

    pub(super) fn bytes(&self) -> u64 {
        self.about.values().map(|tally| tally.bytes).sum()
    }

    /// Takes in the next message.
    pub(super) fn take(&mut self, channel: Channel, entry: &Entry) {
        let Ok(look) = serde_json::from_slice::<Look>(&entry.line) else { return self.lose(1) };
        let text = if channel == Channel::Output {
            let Some(text) = look.content.to_text() else { return self.lose(1) };
            Some(text)
        } else {
            None
        };
        let at = look.timestamp.0.as_microsecond();
        let at = self.clock.map_or(at, |clock| clock.max(at));
        self.clock = Some(at);

        if !self.about.contains_key(&entry.variation) {
            self.about.insert(entry.variation.clone(), Tally::default());
        }
        let tally = self.about.get_mut(&entry.variation).expect("just inserted");
        tally.messages += 1;
        tally.bytes += text.as_ref().map_or(look.content.as_str().len(), String::len) as u64;
        tally.first = tally.first.or(Some(at));
        tally.last = Some(at);
        match (channel, text) {
            (Channel::Output, Some(text)) => tally.say(&text, look.metadata.as_ref()),
            (Channel::Status, _) => {
                let Ok(status) = look.content.read::<Status>() else { return };
                self.expected = self.expected.max(status.variations.unwrap_or(0));
                if let Some(error) = error_in_status(&status) {
                    self.errors.add(&entry.variation, at, &error);
                }
                tally.become_(at, status);
            }
            (Channel::Logs, _) => {
                if let Some(error) = error_in_log(&look.content) {
                    self.errors.add(&entry.variation, at, &error);
                }
            }
            _ => {}
        }
    }
}

impl Tally {
    fn say(&mut self, text: &str, metadata: Option<&Json>) {
        if let Some(tokens) = metadata.and_then(tokens) {
            self.tokens = Some(self.tokens.unwrap_or(0).saturating_add(tokens));
        }
        let end = last_characters(text, LAST_WORDS);
        if end.len() < text.len() {
            self.last_words.clear();
        }
        self.last_words.push_str(end);
        let surplus = self.last_words.len() - last_characters(&self.last_words, LAST_WORDS).len();
        self.last_words.drain(..surplus);
    }

    fn become_(&mut self, at: i64, mut status: Status) {
        if status.state == State::Running {
            self.running = self.running.or(Some(at));
        }
        // A late pending does not undo what was said.
        if status.state == State::Pending && self.status.is_some() {
            return;
        }
        if let Some(reason) = &mut status.reason {
            *reason = super::errors::brief(reason);
        }
        self.status = Some(Said { at, status });
    }
}

/// The number of tokens that metadata tells, if it does: a whole number that is not negative.
fn tokens(metadata: &Json) -> Option<u64> {
    #[derive(Deserialize)]
    struct Tokens {
        tokens: u64,
    }
    // Most messages have none, and are not worth parsing.
    if !metadata.as_str().contains("\"tokens\"") {
        return None;
    }
    Some(metadata.read::<Tokens>().ok()?.tokens)
}

/// The end of a text, at most `count` characters.
fn last_characters(text: &str, count: usize) -> &str {
    if text.len() <= count {
        return text;
    }
    let start = text.char_indices().rev().nth(count - 1).map_or(0, |(start, _)| start);
    &text[start..]
}
