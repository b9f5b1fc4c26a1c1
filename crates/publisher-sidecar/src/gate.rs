//! The one way to Redis for all lanes: the circuit breaker with a clock.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::breaker::{Breaker, BreakerLimits, BreakerState, Passage};

/// A Redis that is back is noticed within a second; one that is away is asked about once a second.
const LIMITS: BreakerLimits =
    BreakerLimits { failures: 5, open_min: Duration::from_millis(100), open_max: Duration::from_secs(1) };

/// Lets attempts through while Redis seems to be there. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Gate(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    breaker: Mutex<Breaker>,
    since: Instant,
    /// Bumped when an attempt has come back.
    moved: watch::Sender<()>,
}

/// Leave for one attempt. What became of it must be said; dropped, it was given up.
#[derive(Debug)]
pub(crate) struct Leave<'a> {
    gate: &'a Shared,
    is_probe: bool,
    told: bool,
}

impl Gate {
    pub(crate) fn new() -> Self {
        let (breaker, moved) = (Mutex::new(Breaker::new(LIMITS)), watch::Sender::new(()));
        Self(Arc::new(Shared { breaker, since: Instant::now(), moved }))
    }

    /// Waits until an attempt may be made.
    pub(crate) async fn pass(&self) -> Leave<'_> {
        let mut moved = self.0.moved.subscribe();
        loop {
            let passage = self.0.lock().pass(self.0.since.elapsed());
            let leave = |is_probe| Leave { gate: &self.0, is_probe, told: false };
            match passage {
                Passage::Free => return leave(false),
                Passage::Probe => return leave(true),
                Passage::Wait(time) => tokio::select! {
                    () = sleep(time) => {}
                    _ = moved.changed() => {}
                },
                // The sender lives in self.
                Passage::Behind => drop(moved.changed().await),
            }
        }
    }

    pub(crate) fn state(&self) -> BreakerState {
        self.0.lock().state(self.0.since.elapsed())
    }
}

impl Leave<'_> {
    /// Redis answered.
    pub(crate) fn succeeded(mut self) {
        self.gate.lock().succeeded();
        self.told = true;
        self.gate.moved.send_replace(());
    }

    /// Redis did not answer, or not now.
    pub(crate) fn failed(mut self) {
        // Nanoseconds are random enough to scatter sidecars.
        let jitter = f64::from(
            std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |time| time.subsec_nanos() % 1000),
        ) / 1000.0;
        self.gate.lock().failed(self.is_probe, self.gate.since.elapsed(), jitter);
        self.told = true;
        self.gate.moved.send_replace(());
    }
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        if self.is_probe && !self.told {
            self.gate.lock().abandoned();
            self.gate.moved.send_replace(());
        }
    }
}

impl Shared {
    // A panic while holding the lock leaves the breaker usable: every operation is one step.
    fn lock(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
