//! Durations as people write them: `#[serde(with = "runcast_runtime::duration")]`.
//!
//! `15s`, `5ms`, `1h 30m`; zero is `0s`. A number without a unit and a negative duration are refused.

use std::time::Duration;

use jiff::SignedDuration;
use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

/// Reads a duration.
///
/// # Errors
/// Text that is not a duration, or a negative one.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

/// Writes a duration, e.g. `1h 30m`.
///
/// # Errors
/// Those of the serializer; a duration beyond 292 billion years.
pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    let duration = SignedDuration::try_from(*duration).map_err(serde::ser::Error::custom)?;
    serializer.collect_str(&format_args!("{duration:#}"))
}

fn parse(text: &str) -> Result<Duration, &'static str> {
    const EXPECTED: &str =
        "expected a duration with its unit, such as `15s`, `5ms` or `1h 30m`, not below zero";
    text.trim()
        .parse::<SignedDuration>()
        .ok()
        .and_then(|duration| Duration::try_from(duration).ok())
        .ok_or(EXPECTED)
}

/// A duration, or empty text for none: `#[serde(with = "runcast_runtime::duration::option")]`.
pub mod option {
    use super::{Deserialize as _, Deserializer, Duration, parse};
    use serde::de::Error as _;

    /// Reads a duration, or none.
    ///
    /// # Errors
    /// Text that is neither empty nor a duration.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.trim().is_empty() { Ok(None) } else { parse(&text).map(Some).map_err(D::Error::custom) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn friendly_durations_are_read() {
        for (text, duration) in [
            ("0s", Duration::ZERO),
            ("5ms", Duration::from_millis(5)),
            ("15s", Duration::from_secs(15)),
            ("1.5s", Duration::from_millis(1500)),
            ("1h 30m", Duration::from_secs(5400)),
            ("24h", Duration::from_secs(86_400)),
        ] {
            assert_eq!(parse(text), Ok(duration), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in ["", "15", "-1s", "1s ago", "soon", "15 parsecs"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_duration_is_written_as_it_is_read() {
        let written = serialize(&Duration::from_millis(5_400_250), serde_json::value::Serializer).unwrap();
        assert_eq!(parse(written.as_str().unwrap()), Ok(Duration::from_millis(5_400_250)));
    }
}
