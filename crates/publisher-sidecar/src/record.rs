//! Telling log records from other text.

use runcast_protocol::Json;
use serde::Deserialize;
use serde::de::IgnoredAny;

/// What makes an object a log record.
#[derive(Deserialize)]
struct Head {
    #[serde(rename = "timestamp")]
    _timestamp: IgnoredAny,
    #[serde(rename = "level")]
    _level: IgnoredAny,
}

/// The log record that a line is: a JSON object with `timestamp` and `level`.
pub fn parse(line: &[u8]) -> Option<Json> {
    if line.first() != Some(&b'{') {
        return None;
    }
    let object = Json::parse(std::str::from_utf8(line).ok()?).ok()?;
    object.read::<Head>().ok()?;
    Some(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_an_object_with_timestamp_and_level() {
        let record = parse(b"{ \"level\": \"info\", \"timestamp\": 1.50, \"b\": [1, 2] }\r").unwrap();
        assert_eq!(record.as_str(), r#"{"level":"info","timestamp":1.50,"b":[1,2]}"#);
        let not: [&[u8]; 8] = [
            b"",
            b"{}",
            b"hello",
            b"[{\"timestamp\":1,\"level\":2}]",
            b" {\"timestamp\":1,\"level\":2}",
            b"{\"timestamp\":1}",
            b"{\"timestamp\":1,\"level\":2",
            b"{\"timestamp\":1,\"level\":\"\xff\"}",
        ];
        for line in not {
            assert!(parse(line).is_none(), "{}", line.escape_ascii());
        }
    }
}
