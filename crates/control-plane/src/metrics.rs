//! What the control-plane counts.

use opentelemetry::global;
use opentelemetry::metrics::{Counter, Histogram, UpDownCounter};

/// Runs that are followed.
pub const RUNS: &str = "runcast.control.runs";
/// Commands that were issued, by action.
pub const COMMANDS: &str = "runcast.control.commands";
/// Commands that callers saw come to an end with all variations, by action and state.
pub const OUTCOMES: &str = "runcast.control.outcomes";
/// Seconds from issue to end of a command, as seen by who waited for it.
pub const DURATION: &str = "runcast.control.command.duration";
/// Commands that this replica expired, by variation.
pub const EXPIRED: &str = "runcast.control.expired";
/// Variations that this replica declared lost.
pub const LOST: &str = "runcast.control.lost";
/// Decisions that were made anew because something had happened meanwhile.
pub const RETRIES: &str = "runcast.control.decision.retries";
/// Calls that were refused because their caller makes too many.
pub const LIMITED: &str = "runcast.control.limited";
/// Looks at which a run or a tenant was above its quota.
pub const EXCESSES: &str = "runcast.control.quota.excesses";
/// Redis users of runs that were found missing or not as they should be on a server, by reason.
pub const USERS: &str = "runcast.control.users.mended";
/// Whether a Redis server is there for us: it answers, and is primary or follows one. Each by server.
pub const SERVER_IN_STEP: &str = "runcast.redis.server.in_step";
/// Bytes that a Redis server uses.
pub const SERVER_MEMORY: &str = "runcast.redis.server.memory.used";
/// Bytes that a Redis server may use, where it is not as many as there are.
pub const SERVER_LIMIT: &str = "runcast.redis.server.memory.limit";
/// Keys that a Redis server deleted to make room.
pub const SERVER_EVICTED: &str = "runcast.redis.server.keys.evicted";
/// Replicas that follow a Redis server that is a primary.
pub const SERVER_REPLICAS: &str = "runcast.redis.server.replicas";
/// Seconds that calls take, streams from the first to the last message, by method and status: a semantic
/// convention of OpenTelemetry, its boundaries too.
pub const CALLS: &str = "rpc.server.call.duration";

/// The control-plane's instruments. Cheap to clone.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "each is named after its constant")]
pub struct Metrics {
    pub runs: UpDownCounter<i64>,
    pub commands: Counter<u64>,
    pub outcomes: Counter<u64>,
    pub duration: Histogram<f64>,
    pub expired: Counter<u64>,
    pub lost: Counter<u64>,
    pub retries: Counter<u64>,
    pub limited: Counter<u64>,
    pub excesses: Counter<u64>,
    pub users: Counter<u64>,
    pub calls: Histogram<f64>,
}

impl Metrics {
    /// The instruments, from the global meter.
    pub fn new() -> Self {
        let meter = global::meter("runcast-control");
        let counter = |name: &'static str, unit: &'static str, description: &'static str| {
            meter.u64_counter(name).with_unit(unit).with_description(description).build()
        };
        Self {
            runs: meter
                .i64_up_down_counter(RUNS)
                .with_unit("{run}")
                .with_description("Runs that are followed")
                .build(),
            commands: counter(COMMANDS, "{command}", "Commands that were issued"),
            outcomes: counter(OUTCOMES, "{command}", "Commands that callers saw come to an end"),
            duration: meter
                .f64_histogram(DURATION)
                .with_unit("s")
                .with_description("From issue to end of a command")
                .with_boundaries(vec![
                    0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0,
                ])
                .build(),
            expired: counter(EXPIRED, "{command}", "Commands that this replica expired"),
            lost: counter(LOST, "{variation}", "Variations that this replica declared lost"),
            retries: counter(RETRIES, "{decision}", "Decisions that were made anew"),
            excesses: counter(EXCESSES, "{look}", "Looks at which a run or a tenant was above its quota"),
            limited: counter(LIMITED, "{call}", "Calls of callers that make too many"),
            users: counter(USERS, "{user}", "Redis users of runs that were not as they should be"),
            calls: meter
                .f64_histogram(CALLS)
                .with_unit("s")
                .with_description("Duration of calls")
                .with_boundaries(vec![
                    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
                ])
                .build(),
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}
