//! When a run is to be archived. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use runcast_bus::LaneState;
use runcast_protocol::{Cursor, Lane};

/// What is known of a run when it is looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    /// All its variations have ended.
    pub(super) over: bool,
    /// The archive has all of it, and says so.
    pub(super) complete: bool,
    /// Messages that the archive lacks.
    pub(super) messages: u64,
    /// About how many bytes these have.
    pub(super) bytes: u64,
    /// For how long there have been such.
    pub(super) age: Duration,
}

/// Whether the run is to be archived now.
pub(super) fn is_due(look: Look, segment_bytes: u64, segment_age: Duration) -> bool {
    if look.messages == 0 {
        return look.over && !look.complete;
    }
    look.over || look.bytes >= segment_bytes || look.age >= segment_age
}

/// Messages that Redis knows of and the archive lacks.
pub(super) fn lacking(lanes: &BTreeMap<Lane, LaneState>, archived: &Cursor) -> u64 {
    let lack =
        |(lane, state): (&Lane, &LaneState)| state.last.get().saturating_sub(archived.position(lane).get());
    lanes.iter().map(lack).sum()
}

/// A lane that is archived further than Redis knows of: the run's id was used again, or a failover lost what
/// its writer has not sent again yet.
pub(super) fn behind(lanes: &BTreeMap<Lane, LaneState>, archived: &Cursor) -> Option<Lane> {
    let position = |lane: &Lane| lanes.get(lane).map(|state| state.last).unwrap_or_default();
    archived.lanes().find(|(lane, archived)| position(lane) < *archived).map(|(lane, _)| lane)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lanes(text: &str) -> BTreeMap<Lane, LaneState> {
        let cursor: Cursor = text.parse().unwrap();
        cursor.lanes().map(|(lane, last)| (lane, LaneState { last, epoch: 1 })).collect()
    }

    #[test]
    fn a_run_is_due_when_it_is_over_large_or_old() {
        let at_work =
            Look { over: false, complete: false, messages: 5, bytes: 99, age: Duration::from_secs(9) };
        let due = |look| is_due(look, 100, Duration::from_secs(10));
        assert!(!due(at_work));
        assert!(due(Look { bytes: 100, ..at_work }));
        assert!(due(Look { age: Duration::from_secs(10), ..at_work }));
        assert!(due(Look { over: true, ..at_work }));
        assert!(due(Look { over: true, complete: true, ..at_work }), "it said more after its end");
        let nothing_new = Look { messages: 0, ..at_work };
        assert!(!due(nothing_new));
        assert!(due(Look { over: true, ..nothing_new }), "the archive does not know that it is over");
        assert!(!due(Look { over: true, complete: true, ..nothing_new }));
    }

    #[test]
    fn what_is_lacking_is_counted_by_lane() {
        let archived: Cursor = "a:3.9,b:5".parse().unwrap();
        assert_eq!(lacking(&lanes("a:10.9,c:2"), &archived), 9);
        assert_eq!(lacking(&lanes("a:3.9,b:5"), &archived), 0);
        assert_eq!(lacking(&lanes("a:1"), &archived), 0);
    }

    #[test]
    fn a_lane_that_went_back_is_told() {
        let archived: Cursor = "a:3,b:5".parse().unwrap();
        assert_eq!(behind(&lanes("a:3,b:5,c:1"), &archived), None);
        assert_eq!(behind(&lanes("a:3,b:4"), &archived), Some("output/b".parse().unwrap()));
        assert_eq!(behind(&lanes("a:3"), &archived), Some("output/b".parse().unwrap()));
    }
}
