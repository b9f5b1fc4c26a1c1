//! What the service counts.

use opentelemetry::global;
use opentelemetry::metrics::{Counter, Gauge};

/// Messages put into the archive.
pub const ARCHIVED_MESSAGES: &str = "runcast.replay.archived.messages";
/// Bytes of these, as they came.
pub const ARCHIVED_BYTES: &str = "runcast.replay.archived.bytes";
/// Segments put into the archive.
pub const ARCHIVED_SEGMENTS: &str = "runcast.replay.archived.segments";
/// Runs of which all is in the archive, each when its last commit was made.
pub const ARCHIVED_RUNS: &str = "runcast.replay.archived.runs";
/// Times that a run could not be archived.
pub const ARCHIVE_FAILURES: &str = "runcast.replay.archive.failures";
/// Times that messages were gone from Redis before they were archived.
pub const ARCHIVE_GAPS: &str = "runcast.replay.archive.gaps";
/// Times that another replica was first with a commit.
pub const ARCHIVE_CONFLICTS: &str = "runcast.replay.archive.conflicts";
/// Runs that are not archived because an archived one has the same id.
pub const ARCHIVE_REUSED: &str = "runcast.replay.archive.reused";
/// Files removed that no commit names.
pub const ARCHIVE_SWEPT: &str = "runcast.replay.archive.swept";
/// Archived runs removed because they are older than the retention.
pub const ARCHIVE_EXPIRED: &str = "runcast.replay.archive.expired";
/// For how long the longest waiting run has had messages that are not archived.
pub const ARCHIVE_LAG: &str = "runcast.replay.archive.lag";

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
    pub archived_messages: Counter<u64>,
    pub archived_bytes: Counter<u64>,
    pub archived_segments: Counter<u64>,
    pub archived_runs: Counter<u64>,
    pub archive_failures: Counter<u64>,
    pub archive_gaps: Counter<u64>,
    pub archive_conflicts: Counter<u64>,
    pub archive_reused: Counter<u64>,
    pub archive_swept: Counter<u64>,
    pub archive_expired: Counter<u64>,
    pub archive_lag: Gauge<u64>,
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
        let counter = |name: &'static str, unit: &'static str, description: &'static str| {
            meter.u64_counter(name).with_unit(unit).with_description(description).build()
        };
        Self {
            archived_messages: counter(ARCHIVED_MESSAGES, "{message}", "Messages put into the archive"),
            archived_bytes: counter(ARCHIVED_BYTES, "By", "Bytes of messages put into the archive"),
            archived_segments: counter(ARCHIVED_SEGMENTS, "{segment}", "Segments put into the archive"),
            archived_runs: counter(ARCHIVED_RUNS, "{run}", "Runs of which all is in the archive"),
            archive_failures: counter(
                ARCHIVE_FAILURES,
                "{failure}",
                "Times that a run could not be archived",
            ),
            archive_gaps: counter(
                ARCHIVE_GAPS,
                "{gap}",
                "Times that messages were gone before they were archived",
            ),
            archive_conflicts: counter(ARCHIVE_CONFLICTS, "{commit}", "Times that another replica was first"),
            archive_reused: counter(ARCHIVE_REUSED, "{run}", "Runs not archived because their id is taken"),
            archive_swept: counter(ARCHIVE_SWEPT, "{file}", "Files removed that no commit names"),
            archive_expired: counter(ARCHIVE_EXPIRED, "{run}", "Archived runs removed by retention"),
            restore_requests: counter(
                RESTORE_REQUESTS,
                "{request}",
                "Requests heard for what only the archive has",
            ),
            restore_messages: counter(
                RESTORE_MESSAGES,
                "{message}",
                "Messages lent from the archive through Redis",
            ),
            restore_bytes: counter(RESTORE_BYTES, "By", "Answers written to Redis"),
            restore_malformed: counter(RESTORE_MALFORMED, "{payload}", "Payloads that were no requests"),
            restore_failed: counter(RESTORE_FAILED, "{request}", "Requests that could not be answered"),
            archive_lag: meter
                .u64_gauge(ARCHIVE_LAG)
                .with_unit("s")
                .with_description("For how long the longest waiting run has had unarchived messages")
                .build(),
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}
