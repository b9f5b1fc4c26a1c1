//! Sees to those who sit: heartbeats, and having them get up when the service stops.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use runcast_runtime::Shutdown;
use tokio::time::MissedTickBehavior;

use crate::view::View;

/// Rounds in the time of one heartbeat.
const ROUNDS: u32 = 15;

/// Sees to those who sit, all of them on one clock. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Usher {
    views: Arc<Mutex<Vec<Weak<View>>>>,
}

impl Usher {
    /// Takes in a view that viewers sit in.
    pub fn attend(&self, view: &Arc<View>) {
        if view.is_first_attended() {
            self.lock().push(Arc::downgrade(view));
        }
    }

    /// Works until `shutdown`; `heartbeat` is the silence after which one is sent, give or take a
    /// fifteenth of it.
    pub async fn work(self, heartbeat: Duration, shutdown: Shutdown) {
        let mut rounds = tokio::time::interval(heartbeat / ROUNDS);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = shutdown.triggered() => break,
                _ = rounds.tick() => {}
            }
            for view in self.views() {
                view.beat(heartbeat - heartbeat / ROUNDS);
            }
        }
        for view in self.views() {
            view.clear();
        }
    }

    /// The views that are still there.
    fn views(&self) -> Vec<Arc<View>> {
        let mut views = self.lock();
        views.retain(|view| view.strong_count() > 0);
        views.iter().filter_map(Weak::upgrade).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Weak<View>>> {
        self.views.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
