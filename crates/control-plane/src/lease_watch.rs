//! Which leases have lapsed. Pure.
//!
//! A lease that is not there means that its sidecar is dead only if the sidecar could have renewed it:
//! while Redis was away nobody could. So leases count only once Redis was reached without a break for as
//! long as a sidecar may take to be back.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use runcast_protocol::VariationId;

/// What the checks of a run's leases have shown so far.
#[derive(Debug)]
pub struct LeaseWatch {
    grace: Duration,
    reached_since: Option<Instant>,
    /// Not there at the last check. Once is not enough: what was evicted comes back.
    missing: HashSet<VariationId>,
}

impl LeaseWatch {
    /// Nothing was checked yet.
    pub fn new(grace: Duration) -> Self {
        Self { grace, reached_since: None, missing: HashSet::new() }
    }

    /// Redis could not be asked.
    pub fn failed(&mut self) {
        self.reached_since = None;
        self.missing.clear();
    }

    /// Redis said of each variation whether its lease is held; those whose lease has lapsed.
    pub fn checked(
        &mut self,
        now: Instant,
        held: impl IntoIterator<Item = (VariationId, bool)>,
    ) -> Vec<VariationId> {
        let since = *self.reached_since.get_or_insert(now);
        let missing = held.into_iter().filter(|(_, held)| !held).map(|(variation, _)| variation).collect();
        let before = std::mem::replace(&mut self.missing, missing);
        if now.duration_since(since) < self.grace {
            return Vec::new();
        }
        self.missing.intersection(&before).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_has_lapsed_only_if_it_could_have_been_renewed() {
        let (begin, second) = (Instant::now(), Duration::from_secs(1));
        let variation = VariationId::new("v").unwrap();
        let mut watch = LeaseWatch::new(5 * second);
        let check = |watch: &mut LeaseWatch, at: u32, held| {
            watch.checked(begin + at * second, [(variation.clone(), held)]).len()
        };
        let lapsed: Vec<_> = (0..8).map(|at| check(&mut watch, at, false)).collect();
        assert_eq!(lapsed, [0, 0, 0, 0, 0, 1, 1, 1], "the grace passes first");
        assert_eq!(check(&mut watch, 9, true), 0);
        assert_eq!(check(&mut watch, 10, false), 0, "once is not enough");
        assert_eq!(check(&mut watch, 11, false), 1);
        watch.failed();
        assert_eq!(check(&mut watch, 12, false), 0, "redis was away: the grace begins anew");
        assert_eq!(check(&mut watch, 17, false), 1);
    }
}
