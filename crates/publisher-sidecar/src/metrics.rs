//! What the sidecar counts.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::metrics::{Counter, Histogram};
use opentelemetry::{KeyValue, global};
use runcast_protocol::Channel;

use crate::lane_queue::Cut;
use crate::open_lane::OpenLane;
use crate::store::Store;

/// Messages taken from the agent, by `channel`.
pub const MESSAGES: &str = "runcast.sidecar.messages";
/// Batches appended, by `channel`.
pub const BATCHES: &str = "runcast.sidecar.batches";
/// Messages appended, by `channel`.
pub const APPENDED: &str = "runcast.sidecar.appended";
/// Seconds from handing a batch over to its being in Redis, retries included, by `channel`.
pub const APPEND_DURATION: &str = "runcast.sidecar.append.duration";
/// Attempts to append that failed; each is repeated.
pub const APPEND_ERRORS: &str = "runcast.sidecar.append.errors";
/// Bytes held that are not known to be safe in Redis, by `channel`.
pub const QUEUE_SIZE: &str = "runcast.sidecar.queue.size";
/// Times that Redis stood elsewhere than expected, and the lane was sent again from there.
pub const REWINDS: &str = "runcast.sidecar.rewinds";
/// Messages that Redis confirmed and then lost, and that were no longer held here.
pub const LOST: &str = "runcast.sidecar.lost";

/// Bytes of the journal on disk.
pub const JOURNAL_SIZE: &str = "runcast.sidecar.journal.size";
/// Messages in the journal that are not safe in Redis.
pub const JOURNAL_MESSAGES: &str = "runcast.sidecar.journal.messages";
/// Age of the oldest message in the journal that is not safe, in seconds.
pub const JOURNAL_AGE: &str = "runcast.sidecar.journal.age";

/// The sidecar's instruments. Cheap to clone.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "each is named after its constant")]
pub struct Metrics {
    pub messages: Counter<u64>,
    pub batches: Counter<u64>,
    pub appended: Counter<u64>,
    pub append_duration: Histogram<f64>,
    pub append_errors: Counter<u64>,
    pub rewinds: Counter<u64>,
    pub lost: Counter<u64>,
}

impl Metrics {
    pub(crate) fn new(lanes: &[Arc<OpenLane>], store: &Store) -> Self {
        let meter = global::meter("runcast-sidecar");
        let lanes = lanes.to_vec();
        // Kept alive by the meter provider; read when somebody asks.
        let _ = meter
            .u64_observable_gauge(QUEUE_SIZE)
            .with_unit("By")
            .with_callback(move |gauge| {
                for lane in &lanes {
                    gauge.observe(lane.position().bytes as u64, &[label(lane.lane.channel)]);
                }
            })
            .build();
        let journal = store.clone();
        let _ = meter
            .u64_observable_gauge(JOURNAL_SIZE)
            .with_unit("By")
            .with_description("Bytes of the journal on disk")
            .with_callback(move |gauge| {
                if let Some(stats) = journal.stats() {
                    gauge.observe(stats.bytes, &[]);
                }
            })
            .build();
        let journal = store.clone();
        let _ = meter
            .u64_observable_gauge(JOURNAL_MESSAGES)
            .with_description("Messages in the journal that are not safe in Redis")
            .with_callback(move |gauge| {
                if let Some(stats) = journal.stats() {
                    gauge.observe(stats.messages, &[]);
                }
            })
            .build();
        let journal = store.clone();
        let _ = meter
            .f64_observable_gauge(JOURNAL_AGE)
            .with_unit("s")
            .with_description("Age of the oldest message that is not safe in Redis")
            .with_callback(move |gauge| {
                if let Some(stats) = journal.stats() {
                    gauge.observe(stats.oldest.unwrap_or_default().as_secs_f64(), &[]);
                }
            })
            .build();
        Self {
            messages: meter.u64_counter(MESSAGES).build(),
            batches: meter.u64_counter(BATCHES).build(),
            appended: meter.u64_counter(APPENDED).build(),
            append_duration: meter
                .f64_histogram(APPEND_DURATION)
                .with_unit("s")
                .with_boundaries(vec![
                    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0,
                ])
                .build(),
            append_errors: meter.u64_counter(APPEND_ERRORS).build(),
            rewinds: meter.u64_counter(REWINDS).build(),
            lost: meter.u64_counter(LOST).build(),
        }
    }

    pub(crate) fn taken(&self, channel: Channel) {
        self.messages.add(1, &[label(channel)]);
    }

    pub(crate) fn batch(&self, channel: Channel, cut: Cut, took: Duration) {
        let labels = [label(channel)];
        self.batches.add(1, &labels);
        self.appended.add(cut.last.get() - cut.first.get() + 1, &labels);
        self.append_duration.record(took.as_secs_f64(), &labels);
    }
}

fn label(channel: Channel) -> KeyValue {
    KeyValue::new("channel", channel.as_str())
}
