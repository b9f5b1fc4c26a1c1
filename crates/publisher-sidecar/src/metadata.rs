//! What a message carries beside its content.

use http::HeaderMap;
use runcast_protocol::Json;
use serde_json::{Map, Value};

/// The names of W3C Trace Context, in headers and in metadata alike.
const TRACE: [&str; 2] = ["traceparent", "tracestate"];

/// Metadata that every message of one source carries: the trace that it belongs to.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Metadata(Map<String, Value>);

impl Metadata {
    /// From the variables `TRACEPARENT` and `TRACESTATE`, as tools that start processes set them.
    pub(crate) fn from_environment() -> Self {
        Self::new(|name| std::env::var(name.to_uppercase()).ok())
    }

    /// From a request's headers.
    pub(crate) fn from_headers(headers: &HeaderMap) -> Self {
        Self::new(|name| Some(headers.get(name)?.to_str().ok()?.to_owned()))
    }

    fn new(value: impl Fn(&str) -> Option<String>) -> Self {
        let present = TRACE.into_iter().filter_map(|name| Some((name, value(name)?)));
        Self(
            present
                .filter(|(_, value)| !value.is_empty())
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        )
    }

    /// The same with one more entry.
    #[must_use]
    pub(crate) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.insert(name.to_owned(), value.into());
        self
    }

    /// As a message carries it.
    pub(crate) fn to_json(&self) -> Json {
        Json::of(&self.0)
    }

    /// `own` with what it lacks of this; `own` as it was written if it lacks nothing.
    pub(crate) fn under(&self, own: Json) -> Json {
        if self.0.is_empty() {
            return own;
        }
        let Ok(mut merged) = own.read::<Map<String, Value>>() else { return own };
        // A trace is told by both of its parts or by neither.
        if TRACE.iter().any(|name| merged.contains_key(*name)) {
            return own;
        }
        merged.extend(self.0.clone());
        Json::of(&merged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_messages_own_trace_wins() {
        let outer = Metadata::default().with("traceparent", "outer");
        let merged = |own: &str| outer.under(Json::parse(own).unwrap()).as_str().to_owned();
        assert_eq!(merged(r#"{"a":1}"#), r#"{"a":1,"traceparent":"outer"}"#);
        assert_eq!(merged(r#"{"traceparent":"own"}"#), r#"{"traceparent":"own"}"#);
        assert_eq!(
            Metadata::default().under(Json::parse(r#"{"n":1.0e400}"#).unwrap()).as_str(),
            r#"{"n":1.0e400}"#
        );
    }
}
