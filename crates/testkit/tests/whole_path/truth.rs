//! What a viewer may miss, and mistakes that the simulation must find.

use std::collections::{BTreeMap, BTreeSet};

use runcast_protocol::Lane;

/// A part that is left out or wrong, to see that the simulation would tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mistake {
    /// The sidecar lets go of what was appended, not of what is safe.
    TrimsOnAppend,
    /// The sidecar takes for safe what one server has and another one confirms.
    AsksTwoServers,
    /// The script appends whatever comes, wherever the lane stands.
    TakesAnyPosition,
    /// The script appends again what it has.
    AppendsTwice,
    /// The fan-out passes on whatever comes by pub/sub.
    TrustsPubSub,
    /// The fan-out never looks into the streams.
    NeverChecks,
    /// Viewers believe old pages that there is nothing more.
    BelievesOldPages,
}

impl Mistake {
    pub const ALL: [Self; 7] = [
        Self::TrimsOnAppend,
        Self::AsksTwoServers,
        Self::TakesAnyPosition,
        Self::AppendsTwice,
        Self::TrustsPubSub,
        Self::NeverChecks,
        Self::BelievesOldPages,
    ];
}

/// Numbers that viewers may be told a gap of: trimmed, given up, or lost with the sidecar's memory.
#[derive(Debug, Default)]
pub struct Truth {
    excused: BTreeMap<Lane, BTreeSet<u64>>,
}

impl Truth {
    pub fn excuse(&mut self, lane: &Lane, numbers: impl IntoIterator<Item = u64>) {
        self.excused.entry(lane.clone()).or_default().extend(numbers);
    }

    /// Fails if a number is missing that has no reason to be.
    pub fn may_miss(&self, lane: &Lane, mut numbers: std::ops::RangeInclusive<u64>) {
        let none = BTreeSet::new();
        let excused = self.excused.get(lane).unwrap_or(&none);
        assert!(numbers.all(|number| excused.contains(&number)), "{lane}: lost without a reason");
    }
}
