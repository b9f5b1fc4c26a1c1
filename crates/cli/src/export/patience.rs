//! How often a broken connection is tried again.

use std::time::Duration;

use anyhow::bail;
use tokio::time::sleep;

use crate::tail::follow::delay;

/// First pause before another attempt; it doubles.
const PAUSE: Duration = Duration::from_millis(500);
/// Attempts that may fail one after the other.
const ATTEMPTS: u32 = 5;

/// Counts attempts that brought nothing.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    failures: u32,
}

impl Patience {
    /// Something came: what failed before counts no more.
    pub(crate) fn renew(&mut self) {
        self.failures = 0;
    }

    /// Waits before another attempt.
    ///
    /// # Errors
    /// With `why`, if there were too many in a row.
    pub(crate) async fn again(&mut self, why: &str) -> anyhow::Result<()> {
        self.failures += 1;
        if self.failures >= ATTEMPTS {
            bail!("{why}; gave up after {ATTEMPTS} attempts");
        }
        sleep(delay(PAUSE, self.failures - 1, rand::random())).await;
        Ok(())
    }
}
