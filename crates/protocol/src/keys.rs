//! Names in Redis. The braces are Redis Cluster's hash tag: all of a run's keys live in one slot.

use crate::{Channel, Lane, RunId, Sequence, VariationId};

/// Prefix and suffix around a run id in `run:{<run id>}:lanes`, for finding runs with `SCAN`.
const LANES: (&str, &str) = ("run:{", "}:lanes");

/// Stream key and pub/sub channel of a lane. Channels with one writer have one for each variation,
/// the others one a run.
pub fn stream(run: &RunId, lane: &Lane) -> String {
    match lane.writer.variation() {
        Some(variation) if lane.channel.has_one_writer() => own_stream(run, lane.channel, variation),
        // Not where commands are: Redis lets a run's agents write letters, and nothing but read commands.
        Some(_) if lane.channel == Channel::Control => letters(run),
        _ => shared_stream(run, lane.channel),
    }
}

/// Hash of the run's lanes: lane → `<last sequence> <writer epoch>`.
pub fn lanes(run: &RunId) -> String {
    format!("{}{run}{}", LANES.0, LANES.1)
}

/// Pattern that matches every run's lanes hash.
pub fn lanes_pattern() -> String {
    format!("{}*{}", LANES.0, LANES.1)
}

/// The run whose lanes hash `key` is.
pub fn run_of_lanes(key: &str) -> Option<RunId> {
    RunId::new(key.strip_prefix(LANES.0)?.strip_suffix(LANES.1)?).ok()
}

/// Stream and pub/sub channel of what agents of a run write to one another: their lanes of the control channel.
pub fn letters(run: &RunId) -> String {
    format!("run:{{{run}}}:letters")
}

/// Stream of the run's dead letters.
pub fn dead(run: &RunId) -> String {
    format!("run:{{{run}}}:dead")
}

/// Key that lives as long as a variation's sidecar renews it.
pub fn lease(run: &RunId, variation: &VariationId) -> String {
    format!("run:{{{run}}}:lease:{variation}")
}

/// Whether `key` is a variation's lease.
pub fn is_lease(key: &str) -> bool {
    key.split_once("}:").is_some_and(|(_, rest)| rest.starts_with("lease:"))
}

/// Key that says which replica is archiving the run.
pub fn archiving(run: &RunId) -> String {
    format!("run:{{{run}}}:archiving")
}

/// The run's read model.
pub fn summary(run: &RunId) -> String {
    format!("run:{{{run}}}:summary")
}

/// Pub/sub channel on which a run's past is asked for, see [`crate::PastRequest`].
pub const PAST_REQUESTS: &str = "replay:requests";

/// Key that lives as long as somebody hears what is said on [`PAST_REQUESTS`].
pub const REPLAY_ALIVE: &str = "replay:alive";

/// Answer to what is archived of a run: the JSON of a [`crate::PastRun`], or empty if nothing is.
pub fn past(run: &RunId) -> String {
    format!("run:{{{run}}}:past")
}

/// Answer with the archived messages of a lane that follow `after`: a batch, or empty if there are none.
pub fn past_page(run: &RunId, lane: &Lane, after: Sequence) -> String {
    format!("run:{{{run}}}:past:{lane}:{after}")
}

/// Key that says for a moment that somebody is at work on the answer `key`.
pub fn taken(key: &str) -> String {
    format!("{key}:taken")
}

/// Stream of the text that an output lane said so far, joined: entries of `first` and `z`, see
/// [`crate::snapshot_text`]; an entry's ID is its last message's sequence.
pub fn snapshot(run: &RunId, lane: &Lane) -> String {
    format!("run:{{{run}}}:snapshot:{lane}")
}

/// How many streams and channels the lifecycle events of all runs are spread over.
pub const FEEDS: u16 = 16;

/// Stream and pub/sub channel of the lifecycle events of the runs whose slot (CRC16 of the run id, as
/// in Redis Cluster) is `n` modulo [`FEEDS`].
pub fn feed(n: u16) -> String {
    format!("runs:feed:{n}")
}

/// Key that says that a viewers' token was revoked, by its `jti`.
pub fn revoked(token: &str) -> String {
    format!("auth:revoked:{token}")
}

/// Pub/sub channel of the `jti` of tokens as they are revoked.
pub const REVOKED: &str = "auth:revoked";

/// What a viewer's ticket stands for, by the ticket's digest.
pub fn ticket(digest: &str) -> String {
    format!("auth:ticket:{digest}")
}

/// Hash of what is known of the credentials of runs' Redis users, never the passwords themselves: run → JSON.
pub const CREDENTIALS: &str = "runcast:credentials";

fn own_stream(run: &RunId, channel: Channel, variation: &VariationId) -> String {
    format!("run:{{{run}}}:{channel}:{variation}")
}

fn shared_stream(run: &RunId, channel: Channel) -> String {
    format!("run:{{{run}}}:{channel}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_contract() {
        let run = RunId::new("run-abc").unwrap();
        let name = |lane: &str| stream(&run, &lane.parse().unwrap());
        assert_eq!(name("output/var-1"), "run:{run-abc}:output:var-1");
        assert_eq!(name("logs/var-1"), "run:{run-abc}:logs:var-1");
        assert_eq!(name("status/var-1"), "run:{run-abc}:status");
        assert_eq!(name("control/@control"), "run:{run-abc}:control");
        assert_eq!(name("control/var-1"), "run:{run-abc}:letters");
        assert_eq!(name("status/@control"), "run:{run-abc}:status");
        let lane = "output/var-1".parse().unwrap();
        assert_eq!(snapshot(&run, &lane), "run:{run-abc}:snapshot:output/var-1");
        assert_eq!(lanes(&run), "run:{run-abc}:lanes");
        assert_eq!(run_of_lanes("run:{run-abc}:lanes"), Some(run));
        assert_eq!(run_of_lanes("run:{}:lanes"), None);
        assert!(is_lease(&lease(&RunId::new("r").unwrap(), &VariationId::new("v").unwrap())));
        assert!(!is_lease(&summary(&RunId::new("lease").unwrap())));
    }
}
