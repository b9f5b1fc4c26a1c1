//! What the fan-out counts.

use opentelemetry::metrics::{Counter, Histogram, UpDownCounter};
use opentelemetry::{KeyValue, global};
use runcast_auth::Denied;

/// Viewers that are connected.
pub const VIEWERS: &str = "runcast.fanout.viewers";
/// Runs that somebody watches.
pub const FEEDS: &str = "runcast.fanout.feeds";
/// Messages passed on to views, each once.
pub const MESSAGES: &str = "runcast.fanout.messages";
/// Batches that had been passed on before and were suppressed.
pub const DUPLICATES: &str = "runcast.fanout.duplicates";
/// Pages read from streams because pub/sub had not brought what comes next.
pub const BACKFILLS: &str = "runcast.fanout.backfills";
/// Pages read for viewers behind the ring; each serves all who need it.
pub const PAGES: &str = "runcast.fanout.pages";
/// Times that messages could no longer be had.
pub const GAPS: &str = "runcast.fanout.gaps";
/// Messages that gaps stand for.
pub const LOST: &str = "runcast.fanout.lost";
/// From the time that a message bears to when it was handed to its viewers, once for each batch that pub/sub brought.
/// Two clocks: below zero counts as zero.
pub const LATENCY: &str = "runcast.fanout.latency";
/// Payloads that were not batches.
pub const MALFORMED: &str = "runcast.fanout.malformed";
/// Streams that were refused; the attribute `reason` says by which limit.
pub const REFUSED: &str = "runcast.fanout.refused";

/// Requests refused, and streams ended, for their tokens; by `reason`.
pub const DENIED: &str = "runcast.fanout.denied";

/// The fan-out's instruments. Cheap to clone.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "each is named after its constant")]
pub struct Metrics {
    pub viewers: UpDownCounter<i64>,
    pub feeds: UpDownCounter<i64>,
    pub messages: Counter<u64>,
    pub duplicates: Counter<u64>,
    pub backfills: Counter<u64>,
    pub pages: Counter<u64>,
    pub gaps: Counter<u64>,
    pub lost: Counter<u64>,
    pub latency: Histogram<f64>,
    pub malformed: Counter<u64>,
    pub denied: Counter<u64>,
    pub refused: Counter<u64>,
}

impl Metrics {
    /// The instruments, from the global meter.
    pub fn new() -> Self {
        let meter = global::meter("runcast-fanout");
        Self {
            viewers: meter
                .i64_up_down_counter(VIEWERS)
                .with_unit("{viewer}")
                .with_description("Viewers that are connected")
                .build(),
            feeds: meter
                .i64_up_down_counter(FEEDS)
                .with_unit("{run}")
                .with_description("Runs that somebody watches")
                .build(),
            messages: meter
                .u64_counter(MESSAGES)
                .with_unit("{message}")
                .with_description("Messages passed on to views")
                .build(),
            duplicates: meter
                .u64_counter(DUPLICATES)
                .with_unit("{batch}")
                .with_description("Batches suppressed as duplicates")
                .build(),
            backfills: meter
                .u64_counter(BACKFILLS)
                .with_unit("{page}")
                .with_description("Pages read because something was missing")
                .build(),
            pages: meter
                .u64_counter(PAGES)
                .with_unit("{page}")
                .with_description("Pages read for viewers who catch up")
                .build(),
            gaps: meter
                .u64_counter(GAPS)
                .with_unit("{gap}")
                .with_description("Times that messages could no longer be had")
                .build(),
            refused: meter
                .u64_counter(REFUSED)
                .with_unit("{refusal}")
                .with_description("Streams refused because their holder had too many open")
                .build(),
            lost: meter
                .u64_counter(LOST)
                .with_unit("{message}")
                .with_description("Messages that could no longer be had")
                .build(),
            latency: meter
                .f64_histogram(LATENCY)
                .with_unit("s")
                .with_description("From a message's time to when it was handed to its viewers")
                .with_boundaries(vec![
                    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
                ])
                .build(),
            malformed: meter
                .u64_counter(MALFORMED)
                .with_unit("{payload}")
                .with_description("Payloads that were not batches")
                .build(),
            denied: meter
                .u64_counter(DENIED)
                .with_unit("{request}")
                .with_description("Requests refused and streams ended for their tokens")
                .build(),
        }
    }

    /// Counts somebody who is not let in, or no longer.
    pub fn deny(&self, denied: Denied) {
        self.denied.add(1, &[KeyValue::new("reason", denied.reason())]);
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}
