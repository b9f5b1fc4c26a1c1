//! What the sidecar counts.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::metrics::{AsyncInstrument, Counter, Histogram, Meter};
use opentelemetry::{KeyValue, global};
use runcast_protocol::{Channel, Step};

use crate::breaker::BreakerState;
use crate::commands::desk::Desk;
use crate::gate::Gate;
use crate::journal::Stats;
use crate::lane_queue::Cut;
use crate::lease::LeaseState;
use crate::open_lane::OpenLane;
use crate::publisher::LanePosition;
use crate::store::Stores;

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

/// Messages in Redis that are not known to be safe there, by `channel`.
pub const EXPOSED: &str = "runcast.sidecar.exposed";
/// Messages dropped because there was no room, by `channel`.
pub const DROPPED: &str = "runcast.sidecar.dropped";
/// Seconds for which the agent was held back because it said more than its quota, by `channel`.
pub const HELD_BACK: &str = "runcast.sidecar.held_back";
/// Messages that could never be stored, by `channel`.
pub const DEAD: &str = "runcast.sidecar.dead_letters";
/// Secrets replaced, by `pattern`: its name, or `known-value`.
pub const REDACTED: &str = "runcast.sidecar.redacted";
/// Messages in the journal that could not be read any more.
pub const DAMAGED: &str = "runcast.sidecar.journal.damaged";
/// Bytes of the journal on disk.
pub const JOURNAL_SIZE: &str = "runcast.sidecar.journal.size";
/// Messages in the journal that are not known to be safe in Redis.
pub const JOURNAL_DEPTH: &str = "runcast.sidecar.journal.depth";
/// Age of the oldest of them.
pub const JOURNAL_AGE: &str = "runcast.sidecar.journal.age";
/// Steps said of commands, by `action` and `step`.
pub const COMMANDS: &str = "runcast.sidecar.commands";
/// Commands that have not ended.
pub const COMMANDS_OPEN: &str = "runcast.sidecar.commands.open";
/// Time since the lease was renewed; none before it was first taken, and after it was let go.
pub const LEASE_AGE: &str = "runcast.sidecar.lease.age";
/// Times that the lease was found to have lapsed.
pub const LEASE_LAPSES: &str = "runcast.sidecar.lease.lapses";
/// The circuit breaker before Redis: 0 closed, 1 half-open, 2 open.
pub const BREAKER: &str = "runcast.sidecar.breaker";

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
    pub dropped: Counter<u64>,
    pub held_back: Counter<f64>,
    pub dead: Counter<u64>,
    pub redacted: Counter<u64>,
    pub damaged: Counter<u64>,
    pub commands: Counter<u64>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let meter = meter();
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
            dropped: meter.u64_counter(DROPPED).build(),
            held_back: meter.f64_counter(HELD_BACK).with_unit("s").build(),
            dead: meter.u64_counter(DEAD).build(),
            redacted: meter.u64_counter(REDACTED).build(),
            damaged: meter.u64_counter(DAMAGED).build(),
            commands: meter.u64_counter(COMMANDS).build(),
        }
    }

    /// What is read when somebody asks; the meter provider keeps it alive.
    pub(crate) fn observe(lanes: &[Arc<OpenLane>], stores: &Stores, gate: &Gate) {
        let gauge = |name, unit, value: fn(&LanePosition) -> u64| {
            let lanes = lanes.to_vec();
            let observe = move |gauge: &dyn AsyncInstrument<u64>| {
                for lane in &lanes {
                    gauge.observe(value(&lane.position()), &[label(lane.lane.channel)]);
                }
            };
            let _ = meter().u64_observable_gauge(name).with_unit(unit).with_callback(observe).build();
        };
        gauge(QUEUE_SIZE, "By", |position| position.bytes as u64);
        gauge(EXPOSED, "{message}", |position| position.exposed);
        let gauge = |name, unit, value: fn(Stats) -> u64| {
            let stores = stores.clone();
            let observe = move |gauge: &dyn AsyncInstrument<u64>| {
                if let Some(stats) = stores.stats() {
                    gauge.observe(value(stats), &[]);
                }
            };
            let _ = meter().u64_observable_gauge(name).with_unit(unit).with_callback(observe).build();
        };
        gauge(JOURNAL_SIZE, "By", |stats| stats.bytes);
        gauge(JOURNAL_DEPTH, "{message}", |stats| stats.messages);
        gauge(JOURNAL_AGE, "s", |stats| stats.oldest.unwrap_or_default().as_secs());
        let gate = gate.clone();
        let observe = move |gauge: &dyn AsyncInstrument<u64>| {
            let state = match gate.state() {
                BreakerState::Closed => 0,
                BreakerState::HalfOpen => 1,
                BreakerState::Open => 2,
            };
            gauge.observe(state, &[]);
        };
        let _ = meter().u64_observable_gauge(BREAKER).with_callback(observe).build();
    }

    pub(crate) fn observe_commands(desk: &Arc<Desk>) {
        let desk = desk.clone();
        let observe = move |gauge: &dyn AsyncInstrument<u64>| {
            gauge.observe(desk.inbox().open_count() as u64, &[]);
        };
        let _ = meter().u64_observable_gauge(COMMANDS_OPEN).with_callback(observe).build();
    }

    pub(crate) fn observe_lease(state: impl Fn() -> LeaseState + Clone + Send + Sync + 'static) {
        let count = state.clone();
        let observe = move |gauge: &dyn AsyncInstrument<f64>| {
            let state = state();
            if let Some(renewed) = state.renewed.filter(|_| !state.released) {
                gauge.observe(renewed.elapsed().as_secs_f64(), &[]);
            }
        };
        let _ = meter().f64_observable_gauge(LEASE_AGE).with_unit("s").with_callback(observe).build();
        let observe = move |counter: &dyn AsyncInstrument<u64>| counter.observe(count().lapses, &[]);
        let _ = meter().u64_observable_counter(LEASE_LAPSES).with_callback(observe).build();
    }

    pub(crate) fn command(&self, action: &'static str, step: Step) {
        self.commands.add(1, &[KeyValue::new("action", action), KeyValue::new("step", step.as_str())]);
    }

    pub(crate) fn dropped(&self, channel: Channel, count: u64) {
        self.dropped.add(count, &[label(channel)]);
    }

    pub(crate) fn held_back(&self, channel: Channel, time: Duration) {
        self.held_back.add(time.as_secs_f64(), &[label(channel)]);
    }

    pub(crate) fn dead(&self, channel: Channel) {
        self.dead.add(1, &[label(channel)]);
    }

    pub(crate) fn redacted(&self, pattern: &str) {
        self.redacted.add(1, &[KeyValue::new("pattern", pattern.to_owned())]);
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

fn meter() -> Meter {
    global::meter("runcast-sidecar")
}

fn label(channel: Channel) -> KeyValue {
    KeyValue::new("channel", channel.as_str())
}
