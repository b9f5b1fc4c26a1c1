//! Keeps the users of runs on one server as they should be. Servers do not tell one another.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry::KeyValue;
use runcast_bus::{AclUser, Bus, BusError, Node, NodeAddress};
use runcast_protocol::RunId;
use tokio::sync::Mutex;
use tokio::time::{MissedTickBehavior, interval};

use crate::credential::Credential;
use crate::metrics::Metrics;
use crate::user_diff::{Change, Shape, Why, changes};

/// Keeps one server's users.
#[derive(Debug)]
pub(crate) struct Keeper {
    node: Node,
    bus: Bus,
    metrics: Metrics,
    /// How the server prints the users of runs, once it is known. Held while users are changed, so that nothing is
    /// put back to what it was before.
    shape: Mutex<Option<Shape>>,
    failing: AtomicBool,
}

impl Keeper {
    pub(crate) fn connect(bus: &Bus, address: &NodeAddress, metrics: Metrics) -> Result<Self, BusError> {
        let node = Node::connect(bus, address)?;
        Ok(Self { node, bus: bus.clone(), metrics, shape: Mutex::default(), failing: AtomicBool::new(false) })
    }

    /// Looks at the interval, and whenever the server is back, for ever.
    pub(crate) async fn keep(&self, every: Duration) {
        let mut tick = interval(every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                // Another version of it may have come back.
                () = self.node.reconnected() => *self.shape.lock().await = None,
            }
            let outcome = self.look().await;
            let failed = outcome.is_err();
            if let Err(error) = outcome
                && !self.failing.load(Ordering::Relaxed)
            {
                let hint = "needs redis, and the rights of a control plane that manages users";
                tracing::warn!(node = %self.node.address(), %error, hint, "could not see to the users of runs; trying again");
            }
            self.failing.store(failed, Ordering::Relaxed);
        }
    }

    /// Changes what is not as it should be.
    async fn look(&self) -> Result<(), BusError> {
        let mut shape = self.shape.lock().await;
        // In this order: a user that is created between the two is wanted, and not missed.
        let lines = self.node.users().await?;
        let Some(kept) = self.bus.credentials().await? else { return Ok(()) };
        let wanted: BTreeMap<RunId, Vec<String>> = kept
            .into_iter()
            .filter_map(|(run, kept)| Some((run, Credential::parse(&kept)?.sums())))
            .collect();
        if shape.is_none()
            && let Some((run, sums)) = wanted.first_key_value()
        {
            self.node.set_user(AclUser::run(run), sums).await?;
            *shape = Shape::of(run, &self.node.users().await?);
        }
        for change in changes(&lines, &wanted, shape.as_ref()) {
            let why = match &change {
                Change::Set { why, .. } => why.as_str(),
                Change::Delete { .. } => "stray",
            };
            self.change(&change).await?;
            self.metrics.users.add(1, &[KeyValue::new("reason", why)]);
            tracing::info!(node = %self.node.address(), ?change, "a user of a run was not as it should be");
            if let Change::Set { why: Why::Rules, .. } = change {
                // If it is rather the shape that is not what it was, it is learned anew.
                *shape = None;
            }
        }
        Ok(())
    }

    /// Makes a change now, and not only when it is found to be needed.
    pub(crate) async fn apply(&self, change: &Change) -> Result<(), BusError> {
        let _changing = self.shape.lock().await;
        self.change(change).await
    }

    async fn change(&self, change: &Change) -> Result<(), BusError> {
        match change {
            Change::Set { run, sums, why } => {
                self.node.set_user(AclUser::run(run), sums).await?;
                if *why == Why::OldPassword {
                    self.node.cut(&AclUser::name_of(run)).await?;
                }
                Ok(())
            }
            Change::Delete { name } => self.node.delete_user(name).await,
        }
    }
}
