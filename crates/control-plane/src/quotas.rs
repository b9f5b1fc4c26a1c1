//! What runs, and the tenants that they belong to, may take of Redis. Sidecars keep to their own quota by themselves; here
//! it shows who does not, whoever writes and with whatever program.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use opentelemetry::KeyValue;
use runcast_bus::BusError;
use runcast_protocol::RunId;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::config::QuotasConfig;
use crate::error::Refusal;
use crate::run::RunContext;
use crate::runs::Runs;

/// Looks at what runs take, and remembers which tenants take too much. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Quotas {
    config: Arc<QuotasConfig>,
    /// The tenants that were above their quota when they were last looked at.
    over: Arc<Mutex<HashSet<String>>>,
}

/// What a run has taken so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Taken {
    /// All that it ever said.
    messages: u64,
    /// Its bytes in Redis now.
    bytes: u64,
}

/// What somebody takes too much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum What {
    /// Messages in a second.
    Messages,
    /// Bytes in Redis.
    Memory,
}

/// Whose quota it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Who {
    Run(RunId),
    Tenant(String),
}

/// Somebody who takes too much.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Excess {
    who: Who,
    what: What,
    amount: u64,
    limit: u64,
}

impl Quotas {
    /// As configured.
    pub fn new(config: QuotasConfig) -> Self {
        Self { config: Arc::new(config), over: Arc::default() }
    }

    /// Whether a run may be created.
    ///
    /// # Errors
    /// [`Refusal::OverQuota`] if its tenant takes too much.
    pub fn admit(&self, run: &RunId) -> Result<(), Refusal> {
        let over = self.lock();
        match self.config.tenant(run).filter(|tenant| over.contains(*tenant)) {
            Some(tenant) => Err(Refusal::OverQuota(tenant.to_owned(), self.config.interval)),
            None => Ok(()),
        }
    }

    /// Looks at the runs that are followed, for ever; not at all if there are no quotas.
    pub async fn watch(self, runs: Runs) {
        if !self.config.are_there() {
            return;
        }
        let mut tick = interval(self.config.interval);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut before, mut looked) = (BTreeMap::new(), Instant::now());
        let mut since: HashMap<(Who, What), Instant> = HashMap::new();
        loop {
            tick.tick().await;
            let now = match self.look(&runs).await {
                Ok(now) => now,
                Err(error) => {
                    tracing::debug!(%error, "could not look at what runs take");
                    continue;
                }
            };
            let found = excesses(&self.config, &before, &now, looked.elapsed());
            (before, looked) = (now, Instant::now());
            since.retain(|key, _| found.iter().any(|excess| (&excess.who, excess.what) == (&key.0, key.1)));
            *self.lock() = found.iter().filter_map(|excess| excess.who.tenant()).collect();
            for excess in &found {
                let begun = *since.entry((excess.who.clone(), excess.what)).or_insert(looked);
                self.act(excess, begun.elapsed(), runs.context()).await;
            }
        }
    }

    async fn look(&self, runs: &Runs) -> Result<BTreeMap<RunId, Taken>, BusError> {
        let bus = &runs.context().bus;
        let mut taken = BTreeMap::new();
        for run in runs.followed() {
            let messages = bus.lanes(&run).await?.values().map(|lane| lane.last.get()).sum();
            let bytes = if self.config.weighs() { bus.memory(&run).await? } else { 0 };
            taken.insert(run, Taken { messages, bytes });
        }
        Ok(taken)
    }

    async fn act(&self, excess: &Excess, lasting: Duration, context: &RunContext) {
        let (kind, name) = excess.who.told();
        let what = excess.what.told();
        let Excess { amount, limit, .. } = excess;
        context.metrics.excesses.add(1, &[KeyValue::new("of", kind), KeyValue::new("what", what)]);
        tracing::warn!(%name, kind, what, amount, limit, ?lasting, "above its quota");
        let (Who::Run(run), Some(users)) = (&excess.who, &context.users) else { return };
        if !self.config.revoke || lasting < self.config.patience {
            return;
        }
        if let Err(error) = users.revoke(run).await {
            return tracing::warn!(%run, %error, "its credential cannot be revoked; trying again");
        }
        tracing::error!(%run, what, amount, limit, "its credential is revoked: above its quota for too long");
    }

    // A panic while holding the lock leaves a set that works.
    fn lock(&self) -> MutexGuard<'_, HashSet<String>> {
        self.over.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who takes too much, from what was taken `elapsed` ago and is now.
fn excesses(
    config: &QuotasConfig,
    before: &BTreeMap<RunId, Taken>,
    now: &BTreeMap<RunId, Taken>,
    elapsed: Duration,
) -> Vec<Excess> {
    let mut tenants: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    let mut found = Vec::new();
    let mut judge = |who: Who, (rate, bytes): (u64, u64), (most_rate, most_bytes): (u64, u64)| {
        for (what, amount, limit) in [(What::Messages, rate, most_rate), (What::Memory, bytes, most_bytes)] {
            if limit > 0 && amount > limit {
                found.push(Excess { who: who.clone(), what, amount, limit });
            }
        }
    };
    for (run, taken) in now {
        // One that is new may have said all of it long ago; after a failover there may be less than before.
        let said = before.get(run).map_or(0, |before| taken.messages.saturating_sub(before.messages));
        let rate = (said as f64 / elapsed.as_secs_f64().max(0.001)) as u64;
        judge(Who::Run(run.clone()), (rate, taken.bytes), config.of_run());
        if let Some(tenant) = config.tenant(run) {
            let sum = tenants.entry(tenant).or_default();
            *sum = (sum.0 + rate, sum.1 + taken.bytes);
        }
    }
    for (tenant, sum) in tenants {
        judge(Who::Tenant(tenant.to_owned()), sum, config.of_tenant());
    }
    found
}

impl Who {
    fn tenant(&self) -> Option<String> {
        match self {
            Self::Run(_) => None,
            Self::Tenant(tenant) => Some(tenant.clone()),
        }
    }

    fn told(&self) -> (&'static str, &str) {
        match self {
            Self::Run(run) => ("run", run.as_str()),
            Self::Tenant(tenant) => ("tenant", tenant),
        }
    }
}

impl What {
    fn told(self) -> &'static str {
        match self {
            Self::Messages => "messages",
            Self::Memory => "memory",
        }
    }
}

#[cfg(test)]
mod tests {
    use bytesize::ByteSize;

    use super::*;

    fn config() -> QuotasConfig {
        QuotasConfig {
            interval: Duration::from_secs(1),
            run_messages_per_second: 100,
            run_memory: ByteSize::b(1000),
            tenants: "a-, b-".to_owned(),
            tenant_messages_per_second: 150,
            tenant_memory: ByteSize::b(1500),
            patience: Duration::ZERO,
            revoke: false,
        }
    }

    fn runs(runs: &[(&str, u64, u64)]) -> BTreeMap<RunId, Taken> {
        let taken =
            |&(id, messages, bytes): &(&str, u64, u64)| (RunId::new(id).unwrap(), Taken { messages, bytes });
        runs.iter().map(taken).collect()
    }

    fn told(found: &[Excess]) -> Vec<(&str, &str, u64)> {
        found.iter().map(|excess| (excess.who.told().1, excess.what.told(), excess.amount)).collect()
    }

    #[test]
    fn runs_and_the_sum_of_a_tenants_are_judged() {
        let before = runs(&[("a-1", 0, 0), ("a-2", 500, 0), ("c", 0, 0)]);
        let now = runs(&[("a-1", 200, 0), ("a-2", 700, 800), ("b-1", 9000, 1001), ("c", 100, 0)]);
        let found = excesses(&config(), &before, &now, Duration::from_secs(2));
        assert_eq!(told(&found), [("b-1", "memory", 1001), ("a-", "messages", 200)]);
        let found = excesses(&config(), &before, &now, Duration::from_secs(1));
        let expected = [
            ("a-1", "messages", 200),
            ("a-2", "messages", 200),
            ("b-1", "memory", 1001),
            ("a-", "messages", 400),
        ];
        assert_eq!(told(&found), expected);
    }

    #[test]
    fn what_has_no_limit_is_not_judged_and_less_than_before_is_nothing() {
        let none = QuotasConfig {
            run_messages_per_second: 0,
            run_memory: ByteSize::b(0),
            tenant_messages_per_second: 0,
            tenant_memory: ByteSize::b(0),
            ..config()
        };
        assert!(!none.are_there() && config().are_there());
        let (before, now) = (runs(&[("a-1", 5000, 0)]), runs(&[("a-1", 4000, 1 << 40)]));
        assert_eq!(excesses(&none, &before, &now, Duration::from_secs(1)), []);
        let found = excesses(&config(), &before, &now, Duration::from_secs(1));
        assert!(found.iter().all(|excess| excess.what == What::Memory), "{found:?}");
    }
}
