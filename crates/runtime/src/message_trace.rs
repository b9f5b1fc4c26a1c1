//! Traces that messages carry: W3C Trace Context in their metadata (design.md §3).
//!
//! An agent's message is looked at for its context only where traces go somewhere, and only its bytes: nothing is
//! parsed for a message that has none.

use std::fmt::Display;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use memchr::memmem::Finder;
use opentelemetry::global::{self, BoxedSpan, BoxedTracer};
use opentelemetry::trace::{
    Link, Span as _, SpanBuilder, SpanContext, SpanId, SpanKind, TraceContextExt as _, TraceFlags, TraceId,
    TraceState, Tracer as _,
};
use opentelemetry::{Context, KeyValue};

/// The name in metadata.
pub const TRACEPARENT: &str = "traceparent";

/// Most spans that one span is linked to.
const LINKS: usize = 32;

static GOES_SOMEWHERE: AtomicBool = AtomicBool::new(false);
static TRACER: LazyLock<BoxedTracer> = LazyLock::new(|| global::tracer("runcast"));
static NAME: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(br#""traceparent":""#));

/// Called once traces go to a collector.
pub(crate) fn begin() {
    GOES_SOMEWHERE.store(true, Ordering::Relaxed);
}

/// Whether traces go to a collector.
pub fn is_on() -> bool {
    GOES_SOMEWHERE.load(Ordering::Relaxed)
}

/// A span of what is done with messages; it ends when it is dropped.
#[derive(Debug)]
pub struct MessageSpan(BoxedSpan);

impl MessageSpan {
    /// Of a message that bears `metadata`: below its sender's span, or else the first of a trace. None if it is not
    /// to be kept, or traces go nowhere.
    pub fn of_message(name: &'static str, kind: SpanKind, metadata: &[u8]) -> Option<Self> {
        if !is_on() {
            return None;
        }
        let context = match context(metadata) {
            Some(context) if !context.is_sampled() => return None,
            Some(context) => Context::new().with_remote_span_context(context),
            None => Context::new(),
        };
        Self::start(TRACER.span_builder(name).with_kind(kind), &context)
    }

    /// Of a message that came from elsewhere, below the span that it names. None if it names none that is kept.
    pub fn below(name: &'static str, kind: SpanKind, message: &[u8]) -> Option<Self> {
        let context = is_on().then(|| context(message)).flatten().filter(SpanContext::is_sampled)?;
        let context = Context::new().with_remote_span_context(context);
        Self::start(TRACER.span_builder(name).with_kind(kind), &context)
    }

    /// Of a batch, that began at `start`: linked to the spans that its lines name, and below the one if there is but
    /// one. None if they name none that is kept.
    pub fn of_batch(name: &'static str, kind: SpanKind, lines: &[u8], start: SystemTime) -> Option<Self> {
        if !is_on() {
            return None;
        }
        let mut contexts: Vec<_> = lines
            .split(|byte| *byte == b'\n')
            .filter_map(context)
            .filter(SpanContext::is_sampled)
            .take(LINKS)
            .collect();
        let parent = match contexts.as_slice() {
            [] => return None,
            [one] => Context::new().with_remote_span_context(one.clone()),
            [_, ..] => Context::new(),
        };
        let links = contexts.drain(..).map(|context| Link::new(context, Vec::new(), 0)).collect();
        let builder = TRACER.span_builder(name).with_kind(kind).with_start_time(start).with_links(links);
        Self::start(builder, &parent)
    }

    fn start(builder: SpanBuilder, parent: &Context) -> Option<Self> {
        let span = TRACER.build_with_context(builder, parent);
        span.is_recording().then_some(Self(span))
    }

    /// Says something of it.
    #[must_use]
    pub fn with(mut self, attributes: impl IntoIterator<Item = KeyValue>) -> Self {
        self.0.set_attributes(attributes);
        self
    }

    /// What a message carries for those who go on with the trace.
    pub fn traceparent(&self) -> String {
        let context = self.0.span_context();
        let flags = context.trace_flags().to_u8();
        format!("00-{}-{}-{flags:02x}", context.trace_id(), context.span_id())
    }
}

/// What is done with messages, and where they go, in OpenTelemetry's words: `operation` is `create`, `send` or `process`.
pub fn destination(operation: &'static str, run: impl Display, lane: impl Display) -> [KeyValue; 4] {
    [
        KeyValue::new("messaging.system", "redis"),
        KeyValue::new("messaging.destination.name", lane.to_string()),
        KeyValue::new("messaging.operation.type", operation),
        KeyValue::new("runcast.run_id", run.to_string()),
    ]
}

/// How many messages a batch has.
pub fn batch_size(messages: u64) -> [KeyValue; 1] {
    let count = i64::try_from(messages).unwrap_or(i64::MAX);
    [KeyValue::new("messaging.batch.message_count", count)]
}

/// The context in a message, or in its metadata alone (<https://www.w3.org/TR/trace-context/#traceparent-header>).
fn context(bytes: &[u8]) -> Option<SpanContext> {
    let begin = NAME.find(bytes)? + NAME.needle().len();
    let text = std::str::from_utf8(bytes.get(begin..begin + 55)?).ok()?;
    let mut parts = text.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let is_hex =
        |text: &str, length| text.len() == length && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_hex(version, 2) || version == "ff" || !is_hex(trace, 32) || !is_hex(span, 16) || !is_hex(flags, 2)
    {
        return None;
    }
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?) & TraceFlags::SAMPLED;
    let (trace, span) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
    Some(SpanContext::new(trace, span, flags, true, TraceState::default())).filter(SpanContext::is_valid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_is_found_wherever_it_stands() {
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let message = format!(r#"{{"content":"x","metadata":{{"a":1,"traceparent":"{parent}"}}}}"#);
        let found = context(message.as_bytes()).unwrap();
        assert_eq!(found.trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(found.span_id().to_string(), "b7ad6b7169203331");
        assert!(found.is_sampled() && found.is_remote());
        assert!(!context(message.replace("-01\"", "-00\"").as_bytes()).unwrap().is_sampled());
        for wrong in [
            r#"{"traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331"#,
            r#"{"traceparent":"00-00000000000000000000000000000000-b7ad6b7169203331-01"}"#,
            r#"{"traceparent":"ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}"#,
            r#"{"traceparent":"00-0af7651916cd43dd8448eb211c8031+c-b7ad6b7169203331-01"}"#,
            r#"{"traceparent":7}"#,
            "",
        ] {
            assert_eq!(context(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn nothing_is_begun_where_traces_go_nowhere() {
        assert!(MessageSpan::of_message("send", SpanKind::Producer, b"{}").is_none());
    }
}
