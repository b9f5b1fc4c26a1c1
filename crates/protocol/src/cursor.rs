//! Cursors: where a viewer stands in all of its lanes, as text. What SSE calls the event id.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{Channel, Lane, Sequence, Writer};

/// Longest cursor taken, in bytes: what a server lets through as one header.
const MAX_LEN: usize = 32 << 10;

const CHANNELS: usize = Channel::ALL.len();

/// The positions of all the lanes a viewer watches.
///
/// As text, grouped by writer with the channels in the order of [`Channel::ALL`] and zeros at the
/// end left off: `var-1:1234.55.4,var-2:88`. Lanes that are not named stand at the beginning; the
/// cursor before all messages is `@control:0`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cursor(BTreeMap<Writer, [Sequence; CHANNELS]>);

/// Text that is not a cursor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor: {0}; a cursor looks like var-1:1234.55,var-2:88 and is an event's id, as it came")]
pub struct CursorError(String);

impl Cursor {
    /// How the cursor before all messages is written.
    const BEGINNING: &str = "@control:0";

    /// The position in `lane`: the last sequence seen, [`Sequence::NONE`] at the beginning.
    pub fn position(&self, lane: &Lane) -> Sequence {
        self.0.get(&lane.writer).map_or(Sequence::NONE, |positions| positions[lane.channel as usize])
    }

    /// Moves `lane` to `position`.
    pub fn set(&mut self, lane: &Lane, position: Sequence) {
        if let Some(positions) = self.0.get_mut(&lane.writer) {
            positions[lane.channel as usize] = position;
        } else if position > Sequence::NONE {
            let mut positions = [Sequence::NONE; CHANNELS];
            positions[lane.channel as usize] = position;
            self.0.insert(lane.writer.clone(), positions);
        }
    }

    /// The lanes that stand past the beginning, with their positions.
    pub fn lanes(&self) -> impl Iterator<Item = (Lane, Sequence)> + '_ {
        self.0.iter().flat_map(|(writer, positions)| {
            Channel::ALL
                .into_iter()
                .zip(*positions)
                .filter(|(_, position)| *position > Sequence::NONE)
                .map(|(channel, position)| (Lane { channel, writer: writer.clone() }, position))
        })
    }

    /// Whether every lane stands at least where `other` has it.
    pub fn covers(&self, other: &Self) -> bool {
        other.lanes().all(|(lane, position)| self.position(&lane) >= position)
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (writer, positions) in &self.0 {
            let Some(last) = positions.iter().rposition(|position| *position > Sequence::NONE) else {
                continue;
            };
            write!(f, "{separator}{writer}")?;
            for (index, position) in positions[..=last].iter().enumerate() {
                write!(f, "{}{position}", if index == 0 { ':' } else { '.' })?;
            }
            separator = ",";
        }
        // An empty event id counts as none, and whoever came back with it would begin anew.
        if separator.is_empty() { f.write_str(Self::BEGINNING) } else { Ok(()) }
    }
}

impl FromStr for Cursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        let refuse = |why: &str| Err(CursorError(why.to_owned()));
        if text.len() > MAX_LEN {
            return refuse("it is longer than 32 KiB");
        }
        let mut cursor = Self::default();
        for group in text.split(',').filter(|_| !text.is_empty()) {
            let Some((writer, numbers)) = group.split_once(':') else {
                return refuse("a writer without positions");
            };
            let writer: Writer = writer.parse().map_err(|error| CursorError(format!("{error}")))?;
            let mut positions = [Sequence::NONE; CHANNELS];
            for (index, number) in numbers.split('.').enumerate() {
                let Some(position) = positions.get_mut(index) else {
                    return refuse("more positions than there are channels");
                };
                // `u64::from_str` would take a plus sign.
                if !number.bytes().all(|b| b.is_ascii_digit()) {
                    return refuse("a position that is not a number");
                }
                *position = match number.parse().ok().and_then(|number| Sequence::new(number).ok()) {
                    Some(sequence) => sequence,
                    None => return refuse("a position that is not a number up to 2^53 - 1"),
                };
            }
            if cursor.0.insert(writer, positions).is_some() {
                return refuse("a writer named twice");
            }
        }
        cursor.0.retain(|_, positions| positions.iter().any(|position| *position > Sequence::NONE));
        Ok(cursor)
    }
}

impl FromIterator<(Lane, Sequence)> for Cursor {
    fn from_iter<I: IntoIterator<Item = (Lane, Sequence)>>(positions: I) -> Self {
        let mut cursor = Self::default();
        for (lane, position) in positions {
            cursor.set(&lane, position);
        }
        cursor
    }
}

impl Serialize for Cursor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cursor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_the_contracts() {
        let text = "@control:0.0.3,var-1:1234.55.4,var-2:88";
        let cursor: Cursor = text.parse().unwrap();
        assert_eq!(cursor.position(&"logs/var-1".parse().unwrap()).get(), 55);
        assert_eq!(cursor.position(&"status/@control".parse().unwrap()).get(), 3);
        assert_eq!(cursor.position(&"output/var-9".parse().unwrap()), Sequence::NONE);
        assert_eq!(cursor.to_string(), text);
        assert_eq!("var-1:5.0.0".parse::<Cursor>().unwrap().to_string(), "var-1:5");
        assert_eq!("".parse::<Cursor>().unwrap(), Cursor::default());
        assert_eq!(Cursor::default().to_string().parse::<Cursor>().unwrap(), Cursor::default());
    }

    #[test]
    fn what_is_not_a_cursor_is_refused() {
        for bad in [
            ",",
            "x",
            "-1",
            "var-1",
            "var-1:",
            "var-1:+1",
            "var-1:1,",
            "var-1:1,var-1:2",
            "var-1:1.2.3.4.5.6.7",
            "var-1:9007199254740992",
            "var-1:99999999999999999999999",
            "a b:1",
            "@other:1",
            ":1",
            "var-1:1\n",
            "var-1: 1",
        ] {
            assert!(bad.parse::<Cursor>().is_err(), "{bad:?} was taken");
        }
        assert!(format!("v:1{}", "0".repeat(1 << 20)).parse::<Cursor>().is_err());
    }
}
