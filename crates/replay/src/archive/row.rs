//! What the archive's index needs of a message. Pure.

use std::borrow::Cow;

use jiff::Timestamp;
use runcast_protocol::timestamp::Text;
use serde::Deserialize;
use serde_json::value::RawValue;

/// What the index needs of a message.
#[derive(Debug, Deserialize)]
pub(crate) struct Row<'a> {
    #[serde(borrow, default)]
    timestamp: Option<&'a RawValue>,
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
}

impl<'a> Row<'a> {
    /// Reads it; none if it is not an object with a type.
    pub(crate) fn read(line: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(line).ok()
    }

    /// The time that it says.
    pub(crate) fn time(&self) -> Option<Timestamp> {
        serde_json::from_str::<Text>(self.timestamp?.get()).ok().map(|text| text.0)
    }

    /// Bytes of what an agent says with it; 0 for what is not output.
    pub(crate) fn text_bytes(&self) -> usize {
        if self.kind != "output" {
            return 0;
        }
        let Some(content) = self.content else { return 0 };
        let text = content.get();
        match text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
            Some(inner) if !inner.contains('\\') => inner.len(),
            _ => serde_json::from_str::<String>(text).map_or(0, |text| text.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_counted_as_it_is_said_and_not_as_it_is_written() {
        for (content, bytes) in
            [(r#""abc""#, 3), (r#""a\n\u00e9""#, 4), (r#""""#, 0), ("5", 0), (r#"{"a":"b"}"#, 0)]
        {
            let line = format!(r#"{{"type":"output","content":{content}}}"#);
            assert_eq!(Row::read(line.as_bytes()).unwrap().text_bytes(), bytes, "{content}");
        }
        assert_eq!(Row::read(br#"{"type":"log","content":"abc"}"#).unwrap().text_bytes(), 0);
    }

    #[test]
    fn a_time_that_is_none_is_none() {
        let line = br#"{"timestamp":"yesterday","type":"output"}"#;
        assert_eq!(Row::read(line).unwrap().time(), None);
        let line = br#"{"timestamp":"2026-01-10T10:30:00.123456Z","type":"output"}"#;
        assert_eq!(Row::read(line).unwrap().time().unwrap().to_string(), "2026-01-10T10:30:00.123456Z");
    }
}
