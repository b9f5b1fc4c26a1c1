//! The trace that a message belongs to, as its metadata names it (W3C Trace Context). Pure.

use memchr::memmem;
use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};

/// How most messages end: they belong to no trace.
const WITHOUT: &[u8] = br#""metadata":{}}"#;

/// Within a string the quotes would be escaped; between tokens there is no space.
const KEY: &[u8] = br#""traceparent":""#;

/// `00-<32 digits>-<16 digits>-<2 digits>`; later versions may have more after it.
const LENGTH: usize = 55;

/// What a message, or its metadata, says of its trace.
///
/// Looks at the end first, where the metadata of our writers stands, and parses nothing else: messages that
/// belong to no trace pay for next to nothing.
#[must_use]
pub fn find(json: &[u8]) -> Option<SpanContext> {
    if json.ends_with(WITHOUT) {
        return None;
    }
    let at = memmem::rfind(json, KEY)? + KEY.len();
    let rest = &json[at..];
    let length = rest.iter().take(4 * LENGTH).position(|byte| *byte == b'"')?;
    parse(std::str::from_utf8(&rest[..length]).ok()?)
}

/// Reads a `traceparent`.
#[must_use]
pub fn parse(text: &str) -> Option<SpanContext> {
    let (known, more) = text.split_at_checked(LENGTH)?;
    let mut parts = known.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let lengths = [version.len(), trace.len(), span.len(), flags.len()];
    let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-');
    let is_whole = if version == "00" { more.is_empty() } else { more.is_empty() || more.starts_with('-') };
    if lengths != [2, 32, 16, 2] || version == "ff" || !is_whole || !known.bytes().all(is_hex) {
        return None;
    }
    let context = SpanContext::new(
        TraceId::from_hex(trace).ok()?,
        SpanId::from_hex(span).ok()?,
        TraceFlags::new(u8::from_str_radix(flags, 16).ok()?) & TraceFlags::SAMPLED,
        true,
        TraceState::NONE,
    );
    context.is_valid().then_some(context)
}

/// The `traceparent` that names a span.
#[must_use]
pub fn text(context: &SpanContext) -> String {
    let flags = (context.trace_flags() & TraceFlags::SAMPLED).to_u8();
    format!("00-{}-{}-{flags:02x}", context.trace_id(), context.span_id())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIVEN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn what_is_written_is_read() {
        let context = parse(GIVEN).unwrap();
        assert!(context.is_sampled() && context.is_remote());
        assert_eq!(text(&context), GIVEN);
        assert!(!parse(&GIVEN.replace("-01", "-00")).unwrap().is_sampled());
        let later = GIVEN.replacen("00-", "01-", 1);
        assert!(parse(&later).is_some() && parse(&format!("{later}-more")).is_some());
    }

    #[test]
    fn what_is_not_one_is_no_trace() {
        let wrong = [
            String::new(),
            GIVEN[..54].to_owned(),
            format!("{GIVEN}-more"),
            GIVEN.to_uppercase(),
            GIVEN.replacen("00-", "ff-", 1),
            GIVEN.replace("4bf92f3577b34da6a3ce929d0e0e4736", "00000000000000000000000000000000"),
            GIVEN.replace("00f067aa0ba902b7", "0000000000000000"),
            GIVEN.replace('4', "é"),
            GIVEN.replace("-00f0", "0-0f0"),
        ];
        for text in wrong {
            assert_eq!(parse(&text), None, "{text}");
        }
    }

    #[test]
    fn the_messages_own_metadata_tells_and_no_word_that_looks_like_it() {
        let message = |content: &str, metadata: &str| {
            format!(r#"{{"sequence":1,"content":{content},"metadata":{metadata}}}"#).into_bytes()
        };
        let own = format!(r#"{{"traceparent":"{GIVEN}","n":1}}"#);
        assert_eq!(find(&message(r#""hello""#, &own)), parse(GIVEN));
        assert_eq!(find(own.as_bytes()), parse(GIVEN));
        let quoted = serde_json::to_string(&own).unwrap();
        assert_eq!(find(&message(&quoted, "{}")), None);
        assert_eq!(find(&message(&quoted, r#"{"n":1}"#)), None);
        assert_eq!(find(&message(&own, "{}")), None);
        assert_eq!(find(br#"{"traceparent":"00-"#), None);
    }
}
