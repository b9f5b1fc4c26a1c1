//! A message's number in its lane.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, de};

/// A message's number in its lane: 1, 2, 3 … without a hole. As a position, "up to and including";
/// [`Sequence::NONE`] is the position before the first message.
///
/// At most 2^53 − 1, since Lua in Redis and JavaScript in browsers count in doubles.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Sequence(u64);

/// A number above 2^53 − 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("sequence {0} is above 2^53 - 1")]
pub struct InvalidSequence(u64);

impl Sequence {
    /// The position before the first message.
    pub const NONE: Self = Self(0);
    /// The largest sequence there can be.
    pub const MAX: Self = Self((1 << 53) - 1);

    /// Checks and wraps a number.
    ///
    /// # Errors
    /// [`InvalidSequence`] above 2^53 − 1.
    pub fn new(number: u64) -> Result<Self, InvalidSequence> {
        if number <= Self::MAX.0 { Ok(Self(number)) } else { Err(InvalidSequence(number)) }
    }

    /// The number.
    pub fn get(self) -> u64 {
        self.0
    }

    /// The sequence after this one (the largest is its own successor).
    #[must_use]
    pub fn next(self) -> Self {
        self.plus(1)
    }

    /// The sequence before this one (nothing comes before [`Sequence::NONE`]).
    #[must_use]
    pub fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    /// The sequence `count` further on.
    #[must_use]
    pub fn plus(self, count: u64) -> Self {
        Self(self.0.saturating_add(count).min(Self::MAX.0))
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl TryFrom<u64> for Sequence {
    type Error = InvalidSequence;
    fn try_from(number: u64) -> Result<Self, InvalidSequence> {
        Self::new(number)
    }
}

impl<'de> Deserialize<'de> for Sequence {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(u64::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}
