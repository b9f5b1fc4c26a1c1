//! What the service counts.

use opentelemetry::global;
use opentelemetry::metrics::Counter;

/// Requests heard for what only the archive has, also those that another replica answers.
pub const RESTORE_REQUESTS: &str = "runcast.replay.restore.requests";
/// Messages lent from the archive through Redis.
pub const RESTORE_MESSAGES: &str = "runcast.replay.restore.messages";
/// Bytes of answers written to Redis.
pub const RESTORE_BYTES: &str = "runcast.replay.restore.bytes";
/// Payloads that were no requests.
pub const RESTORE_MALFORMED: &str = "runcast.replay.restore.malformed";
/// Requests that could not be answered.
pub const RESTORE_FAILED: &str = "runcast.replay.restore.failed";

/// The service's instruments. Cheap to clone.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "each is named after its constant")]
pub struct Metrics {
    pub restore_requests: Counter<u64>,
    pub restore_messages: Counter<u64>,
    pub restore_bytes: Counter<u64>,
    pub restore_malformed: Counter<u64>,
    pub restore_failed: Counter<u64>,
}

impl Metrics {
    /// The instruments, from the global meter.
    pub fn new() -> Self {
        let meter = global::meter("runcast-replay");
        Self {
            restore_requests: meter
                .u64_counter(RESTORE_REQUESTS)
                .with_unit("{request}")
                .with_description("Requests heard for what only the archive has")
                .build(),
            restore_messages: meter
                .u64_counter(RESTORE_MESSAGES)
                .with_unit("{message}")
                .with_description("Messages lent from the archive through Redis")
                .build(),
            restore_bytes: meter
                .u64_counter(RESTORE_BYTES)
                .with_unit("By")
                .with_description("Answers written to Redis")
                .build(),
            restore_malformed: meter
                .u64_counter(RESTORE_MALFORMED)
                .with_unit("{payload}")
                .with_description("Payloads that were no requests")
                .build(),
            restore_failed: meter
                .u64_counter(RESTORE_FAILED)
                .with_unit("{request}")
                .with_description("Requests that could not be answered")
                .build(),
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}
