//! Messages as agents write them, checked at the door.

use std::fmt;

use http::StatusCode;
use runcast_protocol::{Json, MessageType, State, timestamp};
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::answer::Refusal;
use crate::draft::Draft;
use crate::identity::Identity;
use crate::metadata::Metadata;

/// An object's fields in the order in which they were written.
#[derive(Debug)]
pub(super) struct Fields(Vec<(String, Json)>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;
        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = Fields;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a message: a JSON object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(FieldsVisitor)
    }
}

/// Reads one message from its JSON text.
pub(super) fn parse(text: &[u8], identity: &Identity, outer: &Metadata) -> Result<Draft, Refusal> {
    draft(from_json(text)?, identity, outer)
}

/// Reads any JSON.
pub(super) fn from_json<T: DeserializeOwned>(text: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(text).map_err(|error| Refusal::bad(error.to_string()))
}

/// Makes a draft of an object's fields; those that are not known are carried.
pub(super) fn draft(Fields(fields): Fields, identity: &Identity, outer: &Metadata) -> Result<Draft, Refusal> {
    let (mut kind, mut content, mut metadata, mut time) = (None, None, None, None);
    let mut extra: Vec<(String, Json)> = Vec::new();
    for (name, value) in fields {
        let repeated = match name.as_str() {
            "type" => kind.replace(read(&name, &value, "output, log, status or metric")?).is_some(),
            "content" => content.replace(value).is_some(),
            "metadata" => metadata.replace(value).is_some(),
            "timestamp" => time.replace(read::<timestamp::Text>(&name, &value, "RFC 3339 text")?.0).is_some(),
            "run_id" => must_be(&name, &value, identity.run.as_str())?,
            "variation_id" => must_be(&name, &value, identity.variation.as_str())?,
            "sequence" => return Err(Refusal::bad("leave `sequence` out: the sidecar numbers the messages")),
            "writer" => return Err(Refusal::bad("leave `writer` out: it is this sidecar")),
            _ => {
                let repeated = extra.iter().any(|(other, _)| *other == name);
                extra.push((name.clone(), value));
                repeated
            }
        };
        if repeated {
            return Err(Refusal::bad(format!("`{}` is given twice", shown(&name))));
        }
    }
    let kind = kind.ok_or_else(|| Refusal::bad("`type` is missing: use output, log, status or metric"))?;
    let content = content.ok_or_else(|| Refusal::bad("`content` is missing"))?;
    check(kind, &content)?;
    let metadata = metadata.unwrap_or_else(Json::empty_object);
    if !metadata.is_object() {
        return Err(Refusal::bad("`metadata` must be an object"));
    }
    let timestamp = time.unwrap_or_else(timestamp::now);
    Ok(Draft { kind, content, metadata: outer.under(metadata), timestamp, extra, is_clean: false })
}

fn check(kind: MessageType, content: &Json) -> Result<(), Refusal> {
    #[derive(Deserialize)]
    struct Standing {
        state: State,
    }
    match kind {
        MessageType::Control => {
            Err(Refusal::bad("letters to other agents are written with POST /v1/letters"))
        }
        MessageType::Ack => Err(Refusal::bad("commands are answered with POST /v1/commands/{id}/ack")),
        // Half a surrogate pair is a JSON string, but no text.
        MessageType::Output if content.to_text().is_none() => Err(Refusal::bad(
            "the `content` of output must be a string of Unicode text; use log or metric for other values",
        )),
        MessageType::Status if content.read::<Standing>().is_ok_and(|status| status.state.is_terminal()) => {
            Err(Refusal::bad("a terminal status is given with POST /v1/finish"))
        }
        _ => Ok(()),
    }
}

fn read<'a, T: Deserialize<'a>>(name: &str, value: &'a Json, expected: &str) -> Result<T, Refusal> {
    value
        .read()
        .map_err(|_| Refusal::bad(format!("`{name}` is {}, expected {expected}", shown(value.as_str()))))
}

/// Never repeated in a way that matters: each must be the same.
fn must_be(name: &str, value: &Json, ours: &str) -> Result<bool, Refusal> {
    if value.to_text().as_deref() == Some(ours) {
        return Ok(false);
    }
    let given = shown(value.as_str());
    Err(Refusal::bad(format!("`{name}` is {given}, but this sidecar speaks for \"{ours}\": leave it out")))
}

fn shown(text: &str) -> String {
    text.chars().take(40).collect()
}

/// What is said of a message, or a line, that is longer than `max` bytes.
pub(super) fn too_large(max: usize) -> Refusal {
    let detail = format!("a message may have at most {max} bytes (message.max_bytes)");
    Refusal { status: StatusCode::PAYLOAD_TOO_LARGE, detail }
}

#[cfg(test)]
mod tests {
    use runcast_protocol::{RunId, VariationId};

    use super::*;

    fn parsed(text: &str) -> Result<Draft, String> {
        let identity = Identity { run: RunId::new("r").unwrap(), variation: VariationId::new("v").unwrap() };
        parse(text.as_bytes(), &identity, &Metadata::default()).map_err(|refusal| refusal.detail)
    }

    #[test]
    fn everything_that_may_be_given_is_taken() {
        let draft = parsed(
            r#"{"type":"log","content":{"a":1.0e400},"metadata":{"k":"v"},"timestamp":"2026-01-10T10:30:00.1234567+01:00",
                "run_id":"r","variation_id":"v","kind":"x","deep":{"b":[1, 2]}}"#,
        )
        .unwrap();
        assert_eq!(draft.kind, MessageType::Log);
        assert_eq!(draft.content.as_str(), r#"{"a":1.0e400}"#);
        assert_eq!(timestamp::Text(draft.timestamp).to_string(), "2026-01-10T09:30:00.123456Z");
        let extra: Vec<_> = draft.extra.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(extra, [("kind", "\"x\""), ("deep", r#"{"b":[1,2]}"#)]);
    }

    #[test]
    fn a_refusal_says_what_to_do() {
        for (text, fix) in [
            ("", "EOF"),
            ("7", "a message: a JSON object"),
            ("{}", "`type` is missing"),
            (r#"{"type":"log"}"#, "`content` is missing"),
            (r#"{"type":"loud","content":1}"#, "expected output, log"),
            (r#"{"type":"output","content":1}"#, "must be a string"),
            (r#"{"type":"output","content":"\ud800"}"#, "Unicode"),
            (r#"{"type":"control","content":1}"#, "POST /v1/letters"),
            (r#"{"type":"ack","content":1}"#, "POST /v1/commands/{id}/ack"),
            (r#"{"type":"log","content":1,"metadata":[]}"#, "must be an object"),
            (r#"{"type":"log","content":1,"content":2}"#, "given twice"),
            (r#"{"type":"log","content":1,"x":1,"x":2}"#, "given twice"),
            (r#"{"type":"log","content":1,"sequence":4}"#, "sidecar numbers"),
            (r#"{"type":"log","content":1,"writer":"@control"}"#, "leave `writer` out"),
            (r#"{"type":"log","content":1,"run_id":"other"}"#, "leave it out"),
            (r#"{"type":"log","content":1,"timestamp":"today"}"#, "RFC 3339"),
            (r#"{"type":"status","content":{"state":"failed","x":1}}"#, "POST /v1/finish"),
            (r#"{"type":"log","content":1} {}"#, "trailing"),
        ] {
            let refusal = parsed(text).unwrap_err();
            assert!(refusal.contains(fix), "{text}: {refusal}");
        }
        assert!(parsed(r#"{"type":"status","content":{"state":"running","step":3}}"#).is_ok());
    }
}
