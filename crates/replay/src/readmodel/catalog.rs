//! All runs that Redis or the archive know, with their read models.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use runcast_protocol::RunId;
use tokio::sync::Notify;

use super::report::RunSummary;

/// Most runs that may wait to be looked at; the others are, in their turn.
const MAX_ORDERS: usize = 1024;

/// All runs, with their read models as they are told to clients. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    runs: RwLock<BTreeMap<RunId, Arc<RunSummary>>>,
    archived: RwLock<BTreeSet<RunId>>,
    orders: Mutex<BTreeMap<RunId, Order>>,
    ordered: Notify,
    rebuilding: tokio::sync::Mutex<()>,
}

/// What the projector is asked to do with a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// Somebody is interested in it: see whether there is news.
    Look,
    /// What is kept of it was replaced: begin from that.
    Reload,
}

impl Catalog {
    /// One that knows nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A run's read model; none if the run is not known.
    pub fn get(&self, run: &RunId) -> Option<Arc<RunSummary>> {
        self.runs().get(run).cloned()
    }

    /// The read models of all runs, in order of the runs' names.
    pub fn all(&self) -> Vec<Arc<RunSummary>> {
        self.runs().values().cloned().collect()
    }

    /// Whether the archive holds a run, as a whole or in part, as of when it was last asked.
    pub fn is_archived(&self, run: &RunId) -> bool {
        self.shared.archived.read().unwrap_or_else(PoisonError::into_inner).contains(run)
    }

    /// Puts a run's read model in the place of the one before.
    pub(super) fn put(&self, summary: RunSummary) -> Arc<RunSummary> {
        let summary = Arc::new(summary);
        self.runs_mut().insert(summary.run_id.clone(), summary.clone());
        summary
    }

    /// Redis knows the run no more: it is forgotten unless the archive has it.
    pub(super) fn expire(&self, run: &RunId) {
        if !self.is_archived(run) {
            self.runs_mut().remove(run);
        }
    }

    /// Learns what the archive holds, `live` being what Redis does. Returns the runs of which nothing is
    /// known yet.
    pub(super) fn learn_archived(
        &self,
        archived: BTreeSet<RunId>,
        live: impl Fn(&RunId) -> bool,
    ) -> Vec<RunId> {
        let mut runs = self.runs_mut();
        runs.retain(|run, _| archived.contains(run) || live(run));
        for (run, summary) in runs.iter_mut() {
            let is_archived = archived.contains(run);
            if summary.archived != is_archived {
                *summary = Arc::new(RunSummary { archived: is_archived, ..RunSummary::clone(summary) });
            }
        }
        let unknown = archived.iter().filter(|run| !runs.contains_key(run)).cloned().collect();
        *self.shared.archived.write().unwrap_or_else(PoisonError::into_inner) = archived;
        unknown
    }

    /// Asks the projector to see to a run soon.
    pub(super) fn order(&self, run: &RunId, order: Order) {
        let mut orders = self.orders();
        if order == Order::Reload || (orders.len() < MAX_ORDERS && !orders.contains_key(run)) {
            orders.insert(run.clone(), order);
            self.shared.ordered.notify_one();
        }
    }

    /// Waits until there are orders.
    pub(super) async fn ordered(&self) {
        self.shared.ordered.notified().await;
    }

    /// Takes the orders there are.
    pub(super) fn take_orders(&self) -> BTreeMap<RunId, Order> {
        std::mem::take(&mut *self.orders())
    }

    /// Held while a read model is rebuilt: that costs reading a whole run, so only one at a time.
    pub(super) async fn rebuilding(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.shared.rebuilding.lock().await
    }

    // A panic while holding a lock leaves the maps usable: every change is one step.
    fn runs(&self) -> RwLockReadGuard<'_, BTreeMap<RunId, Arc<RunSummary>>> {
        self.shared.runs.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn runs_mut(&self) -> RwLockWriteGuard<'_, BTreeMap<RunId, Arc<RunSummary>>> {
        self.shared.runs.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn orders(&self) -> MutexGuard<'_, BTreeMap<RunId, Order>> {
        self.shared.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::readmodel::Summary;

    fn run(name: &str) -> RunId {
        RunId::new(name).unwrap()
    }

    #[test]
    fn a_run_is_known_as_long_as_redis_or_the_archive_knows_it() {
        let catalog = Catalog::new();
        for name in ["live", "both"] {
            catalog.put(RunSummary::of(&run(name), &Summary::default(), false));
        }
        let archived = || BTreeSet::from([run("both"), run("old")]);
        let unknown = catalog.learn_archived(archived(), |run| run.as_str() != "old");
        assert_eq!(unknown, [run("old")]);
        catalog.put(RunSummary::of(&run("old"), &Summary::default(), true));
        assert_eq!(catalog.get(&run("both")).map(|run| run.archived), Some(true));
        assert_eq!(catalog.get(&run("live")).map(|run| run.archived), Some(false));
        catalog.expire(&run("live"));
        catalog.expire(&run("both"));
        assert!(catalog.get(&run("live")).is_none() && catalog.get(&run("both")).is_some());
        assert_eq!(catalog.learn_archived([run("old")].into(), |_| false), []);
        let left: Vec<_> = catalog.all().iter().map(|run| run.run_id.to_string()).collect();
        assert_eq!(left, ["old"]);
    }

    #[test]
    fn orders_are_bounded_and_a_reload_is_not_forgotten() {
        let catalog = Catalog::new();
        for number in 0..2 * MAX_ORDERS {
            catalog.order(&run(&number.to_string()), Order::Look);
        }
        catalog.order(&run("1"), Order::Reload);
        catalog.order(&run("1"), Order::Look);
        let orders = catalog.take_orders();
        assert_eq!((orders.len(), orders[&run("1")]), (MAX_ORDERS, Order::Reload));
        assert!(catalog.take_orders().is_empty());
    }
}
