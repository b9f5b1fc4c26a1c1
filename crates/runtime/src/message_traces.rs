//! Traces of messages on their way from an agent to its viewers: spans whose parents are named by messages,
//! not by the task that happens to carry them.
//!
//! Names and attributes follow OpenTelemetry's conventions for messaging. A message that belongs to no
//! trace costs a look at its end, and, where traces begin, one random number.

use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use opentelemetry::global::{self, BoxedSpan, BoxedTracer};
use opentelemetry::trace::{
    Link, Span as _, SpanContext, SpanKind, Status, TraceContextExt as _, Tracer as _,
};
use opentelemetry::{Context, KeyValue, Value};

use crate::telemetry::TelemetryConfig;
use crate::traceparent;

/// Most messages of a batch whose traces are named: what a collector takes by default.
const MOST: usize = 128;

/// What is done with messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// The sidecar takes one message from the agent, into its journal.
    Accept,
    /// The sidecar appends a batch to its stream, until Redis has it.
    Append,
    /// The fan-out passes a batch on to its views.
    Receive,
    /// A batch is encoded for one view.
    Encode,
    /// From there to the first viewer of the view who is sent it.
    Deliver,
    /// A page of a stream is read for viewers who catch up.
    Read,
}

/// Begins spans. Cheap to clone.
#[derive(Clone, Default)]
pub struct MessageTraces(Option<Arc<Inner>>);

struct Inner {
    tracer: BoxedTracer,
    /// Which share of 2^63 is kept of the traces that begin here.
    kept: u64,
    random: AtomicU64,
}

/// What a span is about.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The channel's name.
    pub channel: &'static str,
    /// The stream's key.
    pub stream: String,
    /// How many messages; none for one that is not in a batch.
    pub count: Option<usize>,
}

/// A span, which ends when it is dropped.
#[must_use = "it ends when it is dropped"]
pub struct MessageSpan(BoxedSpan);

impl MessageTraces {
    /// Spans for what `config` says; none at all where it names no collector. After
    /// [`Telemetry::init`](crate::Telemetry::init).
    #[must_use]
    pub fn new(service: &'static str, config: &TelemetryConfig) -> Self {
        if !config.exports() {
            return Self::default();
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 2^63")]
        let kept = (config.otlp_sample_ratio * (1_u64 << 63) as f64) as u64;
        let random = AtomicU64::new(RandomState::new().hash_one(service));
        Self(Some(Arc::new(Inner { tracer: global::tracer(service), kept, random })))
    }

    /// The sampled traces that messages belong to, each once, at most 128; none where there is no collector.
    pub fn of<'a>(&self, lines: impl IntoIterator<Item = &'a [u8]>) -> Vec<SpanContext> {
        let mut traces = Vec::new();
        if self.0.is_none() {
            return traces;
        }
        for context in lines.into_iter().filter_map(traceparent::find).filter(SpanContext::is_sampled) {
            if traces.len() == MOST {
                break;
            }
            // What one request makes an agent say belongs together.
            if !traces.contains(&context) {
                traces.push(context);
            }
        }
        traces
    }

    /// Takes a message with this metadata: a span if its trace is sampled, or if one begins with it.
    /// In that case what comes with the span is the `traceparent` that the metadata lacks.
    pub fn accept(
        &self,
        metadata: &str,
        subject: impl FnOnce() -> Subject,
    ) -> Option<(MessageSpan, Option<String>)> {
        let inner = self.0.as_ref()?;
        if let Some(parent) = traceparent::find(metadata.as_bytes()) {
            let span = self.begin(Operation::Accept, &subject(), &[parent], SystemTime::now())?;
            return Some((span, None));
        }
        if !inner.draw() {
            return None;
        }
        let span = inner.span(Operation::Accept, &subject(), &[], SystemTime::now());
        let context = span.0.span_context();
        let text = context.is_sampled().then(|| traceparent::text(context));
        Some((span, text))
    }

    /// Begins a span in the first of these traces, linked to the others; none if there are none.
    pub fn begin(
        &self,
        operation: Operation,
        subject: &Subject,
        traces: &[SpanContext],
        started: SystemTime,
    ) -> Option<MessageSpan> {
        let inner = self.0.as_ref()?;
        traces.first().filter(|first| first.is_sampled())?;
        Some(inner.span(operation, subject, traces, started))
    }
}

impl Inner {
    /// Whether to keep a trace that begins now (SplitMix64, by Steele, Lea and Flood).
    fn draw(&self) -> bool {
        if self.kept == 0 {
            return false;
        }
        let mut z = self.random.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) >> 1 < self.kept
    }

    fn span(
        &self,
        operation: Operation,
        subject: &Subject,
        traces: &[SpanContext],
        started: SystemTime,
    ) -> MessageSpan {
        let Subject { channel, stream, count } = subject;
        let mut attributes = vec![
            KeyValue::new("messaging.system", "redis"),
            KeyValue::new("messaging.operation.name", operation.name()),
            KeyValue::new("messaging.destination.name", stream.clone()),
        ];
        attributes.extend(operation.kind().map(|kind| KeyValue::new("messaging.operation.type", kind)));
        attributes.extend(count.map(|count| KeyValue::new("messaging.batch.message_count", count as i64)));
        let builder = self
            .tracer
            .span_builder(format!("{} {channel}", operation.name()))
            .with_kind(operation.span_kind())
            .with_start_time(started)
            .with_attributes(attributes);
        let (parent, links) = match traces.split_first() {
            Some((first, others)) => (Context::new().with_remote_span_context(first.clone()), others),
            None => (Context::new(), traces),
        };
        let links = links.iter().cloned().map(|context| Link::new(context, Vec::new(), 0)).collect();
        MessageSpan(self.tracer.build_with_context(builder.with_links(links), &parent))
    }
}

impl MessageSpan {
    /// What names it as a parent.
    #[must_use]
    pub fn context(&self) -> SpanContext {
        self.0.span_context().clone()
    }

    /// Says more of it.
    pub fn set(&mut self, name: &'static str, value: impl Into<Value>) {
        self.0.set_attribute(KeyValue::new(name, value));
    }

    /// What it is about did not come to pass.
    pub fn fail(&mut self, error: &dyn fmt::Display) {
        self.0.set_status(Status::error(error.to_string()));
    }
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Append => "append",
            Self::Receive => "receive",
            Self::Encode => "encode",
            Self::Deliver => "deliver",
            Self::Read => "read",
        }
    }

    /// The convention's kind of operation, where it has one.
    fn kind(self) -> Option<&'static str> {
        match self {
            Self::Accept => Some("create"),
            Self::Append => Some("send"),
            Self::Receive | Self::Read => Some("receive"),
            Self::Encode => None,
            Self::Deliver => Some("process"),
        }
    }

    fn span_kind(self) -> SpanKind {
        match self {
            Self::Accept => SpanKind::Producer,
            Self::Append | Self::Receive | Self::Read => SpanKind::Client,
            Self::Encode => SpanKind::Internal,
            Self::Deliver => SpanKind::Consumer,
        }
    }
}

impl fmt::Debug for MessageTraces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MessageTraces").field(&self.0.is_some()).finish()
    }
}

impl fmt::Debug for MessageSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MessageSpan").field(self.0.span_context()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::LogFormat;

    fn traces(ratio: f64) -> MessageTraces {
        let config = TelemetryConfig {
            log: "error".to_owned(),
            log_format: LogFormat::Json,
            otlp_endpoint: "http://127.0.0.1:1".to_owned(),
            otlp_sample_ratio: ratio,
        };
        MessageTraces::new("runcast-test", &config)
    }

    #[test]
    fn so_many_traces_begin_as_the_ratio_says() {
        for (ratio, expected) in [(0.0, 0..=0), (0.01, 800..=1_200), (1.0, 100_000..=100_000)] {
            let traces = traces(ratio);
            let inner = traces.0.as_ref().unwrap();
            let drawn = (0..100_000).filter(|_| inner.draw()).count();
            assert!(expected.contains(&drawn), "{ratio}: {drawn}");
        }
    }

    #[test]
    fn only_sampled_traces_count_and_each_once() {
        let line = |span: u8, flags: &str| {
            let parent = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{span:016x}-{flags}");
            format!(r#"{{"metadata":{{"traceparent":"{parent}"}}}}"#).into_bytes()
        };
        let lines =
            [line(1, "01"), line(1, "01"), line(2, "00"), line(3, "01"), br#"{"metadata":{}}"#.to_vec()];
        let found = traces(0.0).of(lines.iter().map(Vec::as_slice));
        let spans: Vec<_> = found.iter().map(|context| context.span_id().to_string()).collect();
        assert_eq!(spans, ["0000000000000001", "0000000000000003"]);
        assert!(MessageTraces::default().of(lines.iter().map(Vec::as_slice)).is_empty());
    }
}
