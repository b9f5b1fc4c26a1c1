//! How often a broken connection is tried again.

use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use tokio::time::{sleep, timeout};

use crate::server::Answer;
use crate::tail::follow::delay;

/// First pause before another attempt; it doubles.
const PAUSE: Duration = Duration::from_millis(500);
/// Attempts that may fail one after the other.
const ATTEMPTS: u32 = 5;

/// A connection on which nothing comes for so long is as good as broken.
const STANDSTILL: Duration = Duration::from_secs(60);

/// The next piece of an answer; none at its end.
///
/// # Errors
/// If the connection breaks or stands still.
pub(crate) async fn chunk(answer: &mut Answer) -> anyhow::Result<Option<Bytes>> {
    timeout(STANDSTILL, answer.chunk()).await.with_context(|| format!("nothing came for {STANDSTILL:?}"))?
}

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
