//! How much an agent may say: who says more is held back, so that one agent does not fill Redis for all.

use std::num::NonZeroU32;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use bytesize::ByteSize;
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota as Cells, RateLimiter};
use runcast_protocol::Channel;
use serde::Deserialize;
use tokio::time::{Instant, sleep};

use crate::metrics::Metrics;

/// For how many seconds' worth an agent may say at once after a pause: a burst is no flood.
const BURST: u32 = 10;

/// How often it is said again that an agent is held back.
const TELL_AGAIN: Duration = Duration::from_secs(30);

/// `[quota]`
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml explains each option")]
pub struct QuotaConfig {
    pub messages_per_second: u32,
    pub bytes_per_second: ByteSize,
}

/// What an agent may say. All its channels count but those that are few and that others wait for: its states, and
/// what it answers to commands.
#[derive(Debug)]
pub(crate) struct Quota {
    messages: Option<Allowance>,
    bytes: Option<Allowance>,
    told: Mutex<Option<Instant>>,
    metrics: Metrics,
}

#[derive(Debug)]
struct Allowance {
    limiter: DefaultDirectRateLimiter,
    most: NonZeroU32,
}

impl Quota {
    pub(crate) fn new(config: QuotaConfig, metrics: Metrics) -> Self {
        let bytes = u32::try_from(config.bytes_per_second.as_u64()).unwrap_or(u32::MAX);
        let (messages, bytes) = (Allowance::new(config.messages_per_second), Allowance::new(bytes));
        Self { messages, bytes, told: Mutex::default(), metrics }
    }

    /// Waits until a message of so many bytes may be said.
    pub(crate) async fn admit(&self, channel: Channel, size: usize) {
        if !matches!(channel, Channel::Output | Channel::Logs | Channel::Metrics) {
            return;
        }
        let begun = Instant::now();
        let mut waited = false;
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        for (allowance, count) in [(&self.messages, 1), (&self.bytes, size)] {
            if let Some(allowance) = allowance {
                waited |= allowance.take(count).await;
            }
        }
        if waited {
            self.metrics.held_back(channel, begun.elapsed());
            self.tell();
        }
    }

    fn tell(&self) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|told| told.elapsed() > TELL_AGAIN) {
            *told = Some(Instant::now());
            tracing::warn!(
                "the agent says more than its quota (quota.messages_per_second, quota.bytes_per_second): it is held back"
            );
        }
    }
}

impl Allowance {
    /// So many in a second; none for zero.
    fn new(per_second: u32) -> Option<Self> {
        let per_second = NonZeroU32::new(per_second)?;
        let most = per_second.saturating_mul(const { NonZeroU32::new(BURST).unwrap() });
        Some(Self { limiter: RateLimiter::direct(Cells::per_second(per_second).allow_burst(most)), most })
    }

    /// Takes so many, or all that there can be at once if that is less; whether it had to wait for them.
    async fn take(&self, count: u32) -> bool {
        let Some(count) = NonZeroU32::new(count) else { return false };
        let count = count.min(self.most);
        let mut waited = false;
        // Never more than there can be, which is the only error.
        while let Ok(Err(not_yet)) = self.limiter.check_n(count) {
            waited = true;
            sleep(not_yet.wait_time_from(DefaultClock::default().now())).await;
        }
        waited
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_burst_passes_and_what_is_larger_than_any_is_not_held_for_ever() {
        let allowance = Allowance::new(100).unwrap();
        assert!(!allowance.take(400).await && !allowance.take(600).await);
        assert!(allowance.take(10).await, "a tenth of a second later");
        // As much as there can be at once.
        let config = QuotaConfig { messages_per_second: 0, bytes_per_second: ByteSize::kib(1) };
        let quota = Quota::new(config, Metrics::new());
        quota.admit(Channel::Output, 1 << 30).await;
        quota.admit(Channel::Status, 1 << 30).await;
        assert!(Allowance::new(0).is_none());
    }
}
