//! JSON values that are carried, not looked into.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::value::RawValue;

/// A JSON value kept as its own text, on one line: numbers, key order and duplicate keys stay as
/// they were written, only whitespace between tokens goes.
#[derive(Clone)]
pub struct Json(Box<RawValue>);

/// Text that is not one JSON value.
#[derive(Debug, thiserror::Error)]
#[error("not a JSON value: {}", brief(.0))]
pub struct InvalidJson(serde_json::Error);

/// What serde says, which quotes whatever it did not expect: that may be megabytes, and an error
/// message must not be.
pub(crate) fn brief(error: &serde_json::Error) -> String {
    const MAX_CHARS: usize = 160;
    let mut text = error.to_string();
    if let Some((end, _)) = text.char_indices().nth(MAX_CHARS) {
        text.truncate(end);
        text.push('…');
    }
    text
}

impl Json {
    /// Takes over the text of one JSON value, without the whitespace between its tokens.
    ///
    /// # Errors
    /// [`InvalidJson`] if it is not exactly one JSON value.
    pub fn parse(text: &str) -> Result<Self, InvalidJson> {
        serde_json::from_str::<Box<RawValue>>(text).map(Self::compact).map_err(InvalidJson)
    }

    /// A JSON string that holds `text`.
    pub fn string(text: &str) -> Self {
        Self::of(&text)
    }

    /// The empty object.
    pub fn empty_object() -> Self {
        Self::of(&serde_json::Map::new())
    }

    /// The JSON form of a value whose serialisation cannot fail: strings, numbers, maps with string
    /// keys, and structures of these.
    ///
    /// # Panics
    /// If it does fail, which is a mistake in the type's `Serialize`.
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Self {
        Self(serde_json::value::to_raw_value(value).expect("values made of JSON types serialise"))
    }

    /// The value's text, on one line.
    pub fn as_str(&self) -> &str {
        self.0.get()
    }

    /// The string that the value is, if it is one.
    pub fn to_text(&self) -> Option<String> {
        serde_json::from_str(self.as_str()).ok()
    }

    /// Whether the value is a string.
    pub fn is_string(&self) -> bool {
        self.as_str().starts_with('"')
    }

    /// Whether the value is an object.
    pub fn is_object(&self) -> bool {
        self.as_str().starts_with('{')
    }

    /// Reads the value as a `T`.
    ///
    /// # Errors
    /// [`InvalidJson`] if it is not one.
    pub fn read<'a, T: Deserialize<'a>>(&'a self) -> Result<T, InvalidJson> {
        serde_json::from_str(self.as_str()).map_err(InvalidJson)
    }

    fn compact(raw: Box<RawValue>) -> Self {
        let space = |b: u8| matches!(b, b' ' | b'\t' | b'\n' | b'\r');
        // A scalar has no inner whitespace that is not its own text.
        if raw.get().starts_with('"') || !raw.get().bytes().any(space) {
            return Self(raw);
        }
        let (mut quoted, mut escaped) = (false, false);
        let kept = raw.get().chars().filter(|&c| {
            if quoted {
                (quoted, escaped) = (escaped || c != '"', !escaped && c == '\\');
                return true;
            }
            quoted = c == '"';
            !(c.is_ascii() && space(c as u8))
        });
        let text: String = kept.collect();
        Self(RawValue::from_string(text).expect("JSON stays JSON without the space between tokens"))
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::<RawValue>::deserialize(deserializer).map(Self::compact).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_space_between_tokens_goes() {
        let text = "{ \"a b\" :\r\n [ 1.0e400,\t\"\\\" \\\\\", \"x \\\\\\\" y\" ] , \"a b\": 12345678901234567890123 }";
        let json = Json::parse(text).unwrap();
        assert_eq!(
            json.as_str(),
            "{\"a b\":[1.0e400,\"\\\" \\\\\",\"x \\\\\\\" y\"],\"a b\":12345678901234567890123}"
        );
    }

    #[test]
    fn text_survives() {
        for text in ["", "\n\r\0\u{2028}", "é 🚀 \u{1b}[31m"] {
            let json = Json::string(text);
            assert!(!json.as_str().contains(['\n', '\r', '\0']));
            assert_eq!(json.to_text().as_deref(), Some(text));
        }
    }
}
