//! Identifiers of runs and variations.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Longest identifier, in bytes.
const MAX_LEN: usize = 128;

/// Text that is not an identifier: those are 1–128 of `A-Z a-z 0-9 . _ -`, so that none can reach
/// into another run's keys, patterns or frames.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {shown:?} is not valid: use 1 to {MAX_LEN} of A-Z a-z 0-9 . _ -")]
pub struct InvalidId {
    what: &'static str,
    shown: String,
}

fn check(what: &'static str, text: &str) -> Result<(), InvalidId> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if (1..=MAX_LEN).contains(&text.len()) && text.bytes().all(allowed) {
        return Ok(());
    }
    // Hostile text may be megabytes long; an error message must not be.
    let mut shown: String = text.chars().take(40).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    Err(InvalidId { what, shown })
}

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks `text` and takes it over; cheap to clone afterwards.
            ///
            /// # Errors
            /// [`InvalidId`] unless it is 1–128 of `A-Z a-z 0-9 . _ -`.
            pub fn new(text: impl AsRef<str>) -> Result<Self, InvalidId> {
                check($what, text.as_ref())?;
                Ok(Self(text.as_ref().into()))
            }

            /// The identifier as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Self::new(text)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
                Self::new(&text).map_err(de::Error::custom)
            }
        }
    };
}

identifier!(
    /// Names one job with one or more variations.
    RunId,
    "run id"
);
identifier!(
    /// Names one agent of a run that works on its own take.
    VariationId,
    "variation id"
);
identifier!(
    /// Names one command of a run.
    CommandId,
    "command id"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alphabet_and_the_length_are_all_there_is() {
        for good in ["a", "run-abc123", "A.b_C-9", "..", &"x".repeat(128)] {
            assert_eq!(RunId::new(good).unwrap().as_str(), good);
        }
        for bad in
            ["", " ", "a b", "a:b", "a{b}", "a*", "a/b", "é", "a\n", "a\0", "@control", &"x".repeat(129)]
        {
            assert!(RunId::new(bad).is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn an_error_shows_only_the_beginning_of_hostile_text() {
        let error = VariationId::new("é".repeat(1 << 20)).unwrap_err().to_string();
        assert!(error.starts_with("variation id") && error.len() < 300, "{error}");
    }
}
