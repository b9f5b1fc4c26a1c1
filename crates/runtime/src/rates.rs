//! How often somebody may come.

use std::fmt::Debug;
use std::hash::Hash;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use http::{HeaderMap, header};

/// Beyond so many of them, those who came long ago are forgotten.
const REMEMBERED: usize = 10_000;

/// So often in a second, on average.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Zero: as often as they like.
    pub per_second: u32,
    /// How often at once, after a pause.
    pub burst: NonZeroU32,
}

impl Rate {
    /// As often as they like.
    pub const UNLIMITED: Self = Self { per_second: 0, burst: NonZeroU32::MIN };

    /// Twice as often.
    #[must_use]
    pub fn twice(self) -> Self {
        let two = const { NonZeroU32::new(2).unwrap() };
        Self { per_second: self.per_second.saturating_mul(2), burst: self.burst.saturating_mul(two) }
    }
}

/// Counts how often each comes. Clones share the counts; who stays away is forgotten.
#[derive(Clone, Debug)]
pub struct Rates<K: Hash + Eq + Clone + Debug>(Option<Arc<DefaultKeyedRateLimiter<K>>>);

impl<K: Hash + Eq + Clone + Debug> Rates<K> {
    /// Each as often as `rate` says.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        let quota = NonZeroU32::new(rate.per_second).map(Quota::per_second);
        Self(quota.map(|quota| Arc::new(RateLimiter::keyed(quota.allow_burst(rate.burst)))))
    }

    /// Counts one more.
    ///
    /// # Errors
    /// If it is one too many, which does not count: how long to stay away.
    pub fn count(&self, key: &K) -> Result<(), Duration> {
        let Some(limiter) = &self.0 else { return Ok(()) };
        if limiter.len() > REMEMBERED {
            limiter.retain_recent();
        }
        limiter.check_key(key).map_err(|until| until.wait_time_from(DefaultClock::default().now()))
    }
}

/// In whole seconds as `Retry-After` wants them (RFC 9110 §10.2.3), rounded up: who comes earlier comes in vain.
#[must_use]
pub fn whole_seconds(wait: Duration) -> u64 {
    wait.as_millis().div_ceil(1000).max(1).try_into().unwrap_or(u64::MAX)
}

/// Says in an answer when to come back.
pub fn retry_after(headers: &mut HeaderMap, wait: Duration) {
    headers.insert(header::RETRY_AFTER, whole_seconds(wait).into());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(per_second: u32, burst: u32) -> Rate {
        Rate { per_second, burst: NonZeroU32::new(burst).unwrap() }
    }

    #[test]
    fn each_has_its_own_and_is_told_when_to_come_back() {
        let rates = Rates::new(rate(1, 3));
        for _ in 0..3 {
            assert_eq!(rates.count(&'a'), Ok(()));
        }
        let wait = rates.count(&'a').unwrap_err();
        assert!(wait > Duration::from_millis(500) && wait <= Duration::from_secs(1), "{wait:?}");
        assert_eq!(rates.count(&'b'), Ok(()));
        assert_eq!(rates.clone().count(&'a').map_err(whole_seconds), Err(1), "clones share it");
    }

    #[test]
    fn without_a_rate_nobody_is_counted() {
        let rates = Rates::new(Rate::UNLIMITED);
        assert!((0..10_000).all(|_| rates.count(&1).is_ok()) && rates.0.is_none());
    }

    #[test]
    fn who_stays_away_is_forgotten() {
        let rates = Rates::new(rate(1_000_000, 1));
        for key in 0..=REMEMBERED * 2 {
            let _ = rates.count(&key);
        }
        assert!(rates.0.unwrap().len() <= REMEMBERED + 1);
    }
}
