//! Letting viewers go when the service stops: spread over the drain time, so that they do not fall
//! upon the rest all at once.

use std::time::Duration;

use rand::Rng;
use runcast_runtime::Shutdown;
use tokio::time::Instant;

/// When to let viewers go.
#[derive(Debug, Clone)]
pub struct Drain {
    shutdown: Shutdown,
    time: Duration,
}

/// One viewer's share of the drain.
#[derive(Debug)]
pub struct Farewell {
    drain: Drain,
    leaves_at: Option<Instant>,
    told: bool,
}

impl Drain {
    /// Begins with the shutdown and takes `time`.
    pub fn new(shutdown: Shutdown, time: Duration) -> Self {
        Self { shutdown, time }
    }

    /// Whether it has begun.
    pub fn has_begun(&self) -> bool {
        self.shutdown.is_triggered()
    }

    /// A viewer's share.
    pub fn farewell(&self) -> Farewell {
        Farewell { drain: self.clone(), leaves_at: None, told: false }
    }
}

impl Farewell {
    /// Returns when the viewer is to be let go: at a moment of its own within the drain time. Can be
    /// cancelled and awaited again.
    pub async fn time_to_go(&mut self) {
        self.drain.shutdown.triggered().await;
        let leaves_at = *self
            .leaves_at
            .get_or_insert_with(|| Instant::now() + self.drain.time.mul_f64(rand::rng().random()));
        tokio::time::sleep_until(leaves_at).await;
    }

    /// The reconnection delay to tell, once, after the drain began: `usual` and a random share of
    /// the drain time.
    pub fn retry(&mut self, usual: Duration) -> Option<Duration> {
        if !self.drain.shutdown.is_triggered() || std::mem::replace(&mut self.told, true) {
            return None;
        }
        Some(usual + self.drain.time.mul_f64(rand::rng().random()))
    }
}
