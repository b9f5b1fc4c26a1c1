//! Which messages are wanted. Pure.

use jiff::Timestamp;
use runcast_protocol::{Entry, Selection, timestamp};
use serde::Deserialize;
use serde_json::value::RawValue;

/// Which messages of a run are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Channels and variations.
    pub selection: Selection,
    /// Not said before this.
    pub since: Option<Timestamp>,
    /// Said before this.
    pub until: Option<Timestamp>,
    /// With this in their content, in lower case.
    pub search: Option<String>,
}

/// What a filter needs of a message.
#[derive(Debug, Deserialize)]
pub struct Said<'a> {
    /// When it was said.
    pub timestamp: timestamp::Text,
    /// Its content, as JSON text.
    #[serde(borrow)]
    pub content: &'a RawValue,
}

impl<'a> Said<'a> {
    /// Reads it from a message's line; none if that is no message.
    pub fn read(line: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(line).ok()
    }

    /// The content of output; of other messages its JSON text.
    pub fn text(&self) -> String {
        serde_json::from_str(self.content.get()).unwrap_or_else(|_| self.content.get().to_owned())
    }
}

impl Filter {
    /// Whether a message of one of the selection's lanes is wanted.
    pub fn wants(&self, entry: &Entry) -> bool {
        if !self.selection.has_variation(&entry.variation) {
            return false;
        }
        if self.since.is_none() && self.until.is_none() && self.search.is_none() {
            return true;
        }
        let Some(said) = Said::read(&entry.line) else { return false };
        self.since.is_none_or(|since| said.timestamp.0 >= since)
            && self.until.is_none_or(|until| said.timestamp.0 < until)
            && self.search.as_ref().is_none_or(|words| said.text().to_lowercase().contains(words))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use runcast_protocol::Sequence;

    fn entry(content: &str) -> Entry {
        let line = format!(
            r#"{{"timestamp":"2026-01-10T10:30:00.5Z","run_id":"r","variation_id":"v","sequence":1,"type":"output","content":{content},"metadata":{{}}}}"#
        );
        Entry { sequence: Sequence::new(1).unwrap(), variation: "v".parse().unwrap(), line: line.into() }
    }

    #[test]
    fn time_and_words_decide() {
        let time = |text: &str| Some(text.parse().unwrap());
        let filter = |since, until, search: Option<&str>| Filter {
            since,
            until,
            search: search.map(str::to_owned),
            ..Filter::default()
        };
        let message = entry(r#""Grüße \"Welt\"""#);
        assert!(filter(None, None, None).wants(&message));
        assert!(filter(time("2026-01-10T10:30:00.5Z"), None, None).wants(&message));
        assert!(!filter(time("2026-01-10T10:30:00.6Z"), None, None).wants(&message));
        assert!(!filter(None, time("2026-01-10T10:30:00.5Z"), None).wants(&message));
        assert!(filter(None, None, Some("grüße \"w")).wants(&message));
        assert!(!filter(None, None, Some("moon")).wants(&message));
        assert!(filter(None, None, Some("tool")).wants(&entry(r#"{"Tool":1}"#)));
    }
}
