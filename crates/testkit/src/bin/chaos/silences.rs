//! When nothing came although something should have.

use std::time::{Duration, Instant};

/// Anything shorter is no silence.
const SHORTEST: Duration = Duration::from_millis(100);

/// Silences in a flow that should never stop.
#[derive(Debug)]
pub(crate) struct Silences {
    last: Instant,
    found: Vec<(Instant, Instant)>,
}

impl Silences {
    /// None yet.
    pub(crate) fn new() -> Self {
        Self { last: Instant::now(), found: Vec::new() }
    }

    /// Something came.
    pub(crate) fn broken(&mut self) {
        let now = Instant::now();
        if now.duration_since(self.last) > SHORTEST {
            self.found.push((self.last, now));
        }
        self.last = now;
    }

    /// The longest silence that overlaps a stretch of time.
    pub(crate) fn longest(&self, from: Instant, to: Instant) -> Duration {
        let overlapping = self.found.iter().filter(|(begun, ended)| *begun < to && *ended > from);
        overlapping.map(|(begun, ended)| ended.duration_since((*begun).max(from))).max().unwrap_or_default()
    }
}
