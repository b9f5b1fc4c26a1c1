//! The trace that a message belongs to when it comes in.

use runcast_protocol::{Json, Lane, keys};
use runcast_runtime::MessageTraces;
use runcast_runtime::message_traces::{MessageSpan, Subject};

use crate::draft::Draft;
use crate::identity::Identity;

/// A span that lasts until the message is taken, if its trace is sampled. Where a trace begins here, the
/// message's metadata says so; what an agent said of its own trace stays as it is.
pub(crate) fn accept(
    traces: &MessageTraces,
    draft: &mut Draft,
    identity: &Identity,
    lane: &Lane,
) -> Option<MessageSpan> {
    let subject = || {
        let stream = keys::stream(&identity.run, lane);
        Subject { channel: lane.channel.as_str(), stream, count: None }
    };
    let (span, traceparent) = traces.accept(draft.metadata.as_str(), subject)?;
    if let Some(traceparent) = traceparent {
        draft.metadata = with(&draft.metadata, &traceparent);
    }
    Some(span)
}

/// The metadata with its trace; what else it holds stays as it was written.
fn with(metadata: &Json, traceparent: &str) -> Json {
    let others = metadata.as_str().strip_prefix('{').unwrap_or("}");
    let comma = if others == "}" { "" } else { "," };
    let text = format!(r#"{{"traceparent":"{traceparent}"{comma}{others}"#);
    Json::parse(&text).unwrap_or_else(|_| metadata.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_put_before_what_is_there() {
        let with = |metadata: &str| with(&Json::parse(metadata).unwrap(), "00-a-b-01").as_str().to_owned();
        assert_eq!(with("{}"), r#"{"traceparent":"00-a-b-01"}"#);
        assert_eq!(with(r#"{"n":1.0e400}"#), r#"{"traceparent":"00-a-b-01","n":1.0e400}"#);
    }
}
