//! Readiness: a set of named conditions, all of which must hold.

use std::{
    collections::BTreeMap,
    fmt::Display,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use opentelemetry::KeyValue;
use serde::Serialize;
use tokio::time::MissedTickBehavior;

use crate::Shutdown;

/// Whether a condition of readiness, the label `condition`, holds: 1 or 0.
pub const READY: &str = "runcast.ready";

/// How often Redis is asked whether it is there.
const INTERVAL: Duration = Duration::from_secs(1);

/// The conditions of this process's readiness, by name: `redis`, `draining` … Clones share them.
///
/// With no conditions it is ready, so a service sets its own to `false` before it opens a port.
#[derive(Clone, Debug, Default)]
pub struct Health {
    conditions: Arc<Mutex<BTreeMap<&'static str, Condition>>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Condition {
    ready: bool,
    reason: String,
}

#[derive(Serialize)]
struct Report<'a> {
    ready: bool,
    conditions: &'a BTreeMap<&'static str, Condition>,
}

impl Health {
    /// Sets a condition, with the reason that `/readyz` shows. Changes are logged.
    pub fn set(&self, condition: &'static str, ready: bool, reason: &str) {
        let before = self.lock().insert(condition, Condition { ready, reason: reason.to_owned() });
        match before.map(|before| before.ready) {
            Some(was) if was == ready => {}
            None | Some(_) if ready => tracing::info!(condition, reason, "ready"),
            _ => tracing::warn!(condition, reason, "not ready"),
        }
    }

    /// Has metrics tell of the conditions.
    pub fn observe(&self) {
        let health = self.clone();
        let _ = opentelemetry::global::meter("runcast-runtime")
            .u64_observable_gauge(READY)
            .with_description("Whether a condition of readiness holds")
            .with_callback(move |gauge| {
                for (name, condition) in &*health.lock() {
                    gauge.observe(condition.ready.into(), &[KeyValue::new("condition", *name)]);
                }
            })
            .build();
    }

    /// Keeps the conditions `accepting` and `redis` until shutdown: what `ping` says, each second.
    pub async fn watch_redis<E, F>(self, ping: impl Fn() -> F, shutdown: Shutdown)
    where
        E: Display,
        F: Future<Output = Result<(), E>>,
    {
        self.set("accepting", true, "");
        let mut tick = tokio::time::interval(INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.triggered() => break,
                _ = tick.tick() => {}
            }
            match ping().await {
                Ok(()) => self.set("redis", true, "answers"),
                Err(error) => self.set("redis", false, &error.to_string()),
            }
        }
        self.set("accepting", false, "shutting down");
    }

    /// Whether every condition holds.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        all(&self.lock())
    }

    /// Every condition and its reason as JSON:
    /// `{"ready":false,"conditions":{"redis":{"ready":false,"reason":"connection refused"}}}`.
    #[must_use]
    pub fn report(&self) -> String {
        self.snapshot().1
    }

    /// Readiness and report of one and the same moment.
    pub(crate) fn snapshot(&self) -> (bool, String) {
        let conditions = self.lock();
        let report = Report { ready: all(&conditions), conditions: &conditions };
        (report.ready, serde_json::to_string(&report).unwrap_or_default())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Condition>> {
        // Nothing is left half done when a holder panics.
        self.conditions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn all(conditions: &BTreeMap<&'static str, Condition>) -> bool {
    conditions.values().all(|condition| condition.ready)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_only_when_every_condition_holds() {
        let health = Health::default();
        assert!(health.is_ready());
        health.set("redis", false, "connecting");
        health.set("journal", true, "open");
        assert!(!health.is_ready());
        health.clone().set("redis", true, "connected");
        assert!(health.is_ready());
    }

    #[test]
    fn the_report_names_conditions_and_reasons() {
        let health = Health::default();
        assert_eq!(health.report(), r#"{"ready":true,"conditions":{}}"#);
        health.set("redis", false, "said \"no\"\n");
        assert_eq!(
            health.report(),
            r#"{"ready":false,"conditions":{"redis":{"ready":false,"reason":"said \"no\"\n"}}}"#
        );
    }
}
