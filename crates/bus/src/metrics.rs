//! What is counted of the connections to Redis.

use opentelemetry::metrics::Counter;
use opentelemetry::{KeyValue, global};

/// Connections that were lost, or could not be made. The label `connection` says what for: `commands` or
/// `subscriptions`.
pub const ERRORS: &str = "runcast.redis.errors";
/// Connections that were made, the first ones among them. Labelled as [`ERRORS`].
pub const CONNECTS: &str = "runcast.redis.connects";

/// Counts what becomes of one connection.
#[derive(Debug, Clone)]
pub(crate) struct ConnectionMetrics {
    errors: Counter<u64>,
    connects: Counter<u64>,
    labels: [KeyValue; 1],
}

impl ConnectionMetrics {
    /// Of a connection for `commands` or `subscriptions`.
    pub(crate) fn of(connection: &'static str) -> Self {
        let meter = global::meter("runcast-redis");
        let counter = |name, unit, description| {
            meter.u64_counter(name).with_unit(unit).with_description(description).build()
        };
        Self {
            errors: counter(ERRORS, "{error}", "Connections to Redis that were lost or could not be made"),
            connects: counter(CONNECTS, "{connection}", "Connections to Redis that were made"),
            labels: [KeyValue::new("connection", connection)],
        }
    }

    pub(crate) fn failed(&self) {
        self.errors.add(1, &self.labels);
    }

    pub(crate) fn connected(&self) {
        self.connects.add(1, &self.labels);
    }
}
