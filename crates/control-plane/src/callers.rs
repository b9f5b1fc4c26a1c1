//! Who calls, how often he may, and the audit of what he did.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use runcast_runtime::http::ClientAddress;
use runcast_runtime::rates::{Rate, Rates};
use tonic::Request;

use crate::config::LimitsConfig;
use crate::error::Refusal;
use crate::metrics::Metrics;

/// Metadata in which callers may say who they are.
pub(crate) const CALLER: &str = "runcast-caller";
/// Longest name of a caller, in bytes.
const MAX_CALLER: usize = 128;

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// What it says it is called, or its address. Nobody checks.
    pub name: String,
}

/// Admits callers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Callers {
    rates: Rates<IpAddr>,
    metrics: Metrics,
}

impl Callers {
    /// Admits each address at the rate that the limits allow.
    pub fn new(limits: LimitsConfig, metrics: Metrics) -> Self {
        let rate = Rate { per_second: limits.calls_per_second, burst: limits.burst };
        Self { rates: Rates::new(rate), metrics }
    }

    /// Admits a call.
    ///
    /// # Errors
    /// [`Refusal::TooMany`].
    pub fn admit<T>(&self, request: &Request<T>) -> Result<Caller, Refusal> {
        let address = request.extensions().get::<ClientAddress>();
        // Only over a Unix socket there is none.
        let address = address.map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), |address| address.0);
        if let Err(wait) = self.rates.count(&address) {
            self.metrics.limited.add(1, &[]);
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
