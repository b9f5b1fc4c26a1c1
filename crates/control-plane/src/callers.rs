//! Who calls, how often he may, and the audit of what he did.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use tonic::Request;

use crate::config::LimitsConfig;
use crate::error::Refusal;
use crate::metrics::Metrics;

/// Metadata in which callers may say who they are.
pub(crate) const CALLER: &str = "runcast-caller";
/// Longest name of a caller, in bytes.
const MAX_CALLER: usize = 128;
/// Beyond so many addresses those that called long ago are forgotten.
const REMEMBERED: usize = 10_000;

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// What it says it is called, or its address. Nobody checks.
    pub name: String,
}

/// Admits callers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Callers {
    limiter: Arc<DefaultKeyedRateLimiter<IpAddr>>,
    metrics: Metrics,
}

impl Callers {
    /// Admits each address at the rate that the limits allow.
    pub fn new(limits: LimitsConfig, metrics: Metrics) -> Self {
        let one = |number: u32| std::num::NonZeroU32::new(number).unwrap_or(std::num::NonZeroU32::MIN);
        let quota = Quota::per_second(one(limits.calls_per_second)).allow_burst(one(limits.burst));
        Self { limiter: Arc::new(RateLimiter::keyed(quota)), metrics }
    }

    /// Admits a call.
    ///
    /// # Errors
    /// [`Refusal::TooMany`].
    pub fn admit<T>(&self, request: &Request<T>) -> Result<Caller, Refusal> {
        // Connections without an address are tests' own.
        let address = request.remote_addr().map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), |address| address.ip());
        if self.limiter.len() > REMEMBERED {
            self.limiter.retain_recent();
        }
        if let Err(not_until) = self.limiter.check_key(&address) {
            self.metrics.limited.add(1, &[]);
            let wait = not_until.wait_time_from(DefaultClock::default().now());
            return Err(Refusal::TooMany(wait.max(Duration::from_millis(1))));
        }
        let said = request.metadata().get(CALLER).and_then(|name| name.to_str().ok());
        let said = said.filter(|name| (1..=MAX_CALLER).contains(&name.len()));
        Ok(Caller { name: said.map_or_else(|| address.to_string(), ToOwned::to_owned) })
    }
}

impl Caller {
    /// Notes what a caller did, or tried to.
    pub fn audit<T>(&self, method: &str, run: &str, what: &str, outcome: &Result<T, Refusal>) {
        let caller = self.name.as_str();
        match outcome {
            Ok(_) => tracing::info!(target: "audit", caller, method, run, what, outcome = "ok"),
            Err(refusal) => {
                tracing::info!(target: "audit", caller, method, run, what, outcome = "refused", reason = %refusal);
            }
        }
    }
}
