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
use crate::user_diff::{Change, Shape, Why, by_name, wrong};

/// Users that are looked at each time although nothing is known to be wrong about them. On Redis 7.0 each takes the
/// server 0.2 ms.
const LOOKS: usize = 20;

/// Keeps one server's users.
#[derive(Debug)]
pub(crate) struct Keeper {
    node: Node,
    bus: Bus,
    metrics: Metrics,
    /// Held while users are changed, so that nothing is put back to what it was before.
    state: Mutex<State>,
    failing: AtomicBool,
}

/// What is known of the server.
#[derive(Debug, Default)]
struct State {
    /// How it tells of the users of runs, once that is known.
    shape: Option<Shape>,
    /// Which passwords users have, as they were last set or seen.
    sure: BTreeMap<RunId, Vec<String>>,
    /// The user that was looked at last.
    looked: Option<RunId>,
}

impl State {
    /// The next users to look at although nothing is known to be wrong about them.
    fn next_looks(&mut self) -> Vec<RunId> {
        let after = self.looked.take();
        let rest = self.sure.keys().filter(|run| after.as_ref().is_none_or(|after| *run > after));
        let next: Vec<RunId> = rest.take(LOOKS).cloned().collect();
        // After the last of all it begins with the first.
        self.looked = next.last().cloned();
        next
    }
}

impl Keeper {
    pub(crate) fn connect(bus: &Bus, address: &NodeAddress, metrics: Metrics) -> Result<Self, BusError> {
        let node = Node::connect(bus, address)?;
        Ok(Self { node, bus: bus.clone(), metrics, state: Mutex::default(), failing: AtomicBool::new(false) })
    }

    /// Looks at the interval, and whenever the server is back, for ever.
    pub(crate) async fn keep(&self, every: Duration) {
        let mut tick = interval(every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                // Another version of it may have come back.
                () = self.node.reconnected() => *self.state.lock().await = State::default(),
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
        let mut state = self.state.lock().await;
        // In this order: a user that is created between the two is wanted, and not missed.
        let names = self.node.user_names().await?;
        let Some(kept) = self.bus.credentials().await? else { return Ok(()) };
        let wanted: BTreeMap<RunId, Vec<String>> = kept
            .into_iter()
            .filter_map(|(run, kept)| Some((run, Credential::parse(&kept)?.sums())))
            .collect();
        let (changes, mut unsure) = by_name(&names, &wanted, &state.sure);
        for change in changes {
            self.mend(&mut state, &change).await?;
        }
        unsure.extend(state.next_looks());
        for run in unsure {
            let Some(sums) = wanted.get(&run) else { continue };
            let why = self.examine(&mut state, &run, sums).await?;
            if let Some(why) = why {
                self.mend(&mut state, &Change::Set { run, sums: sums.clone(), why }).await?;
            }
        }
        Ok(())
    }

    /// Looks at one user: what is wrong about it.
    async fn examine(
        &self,
        state: &mut State,
        run: &RunId,
        sums: &[String],
    ) -> Result<Option<Why>, BusError> {
        let Some(seen) = self.node.user(&AclUser::name_of(run)).await? else { return Ok(Some(Why::Missing)) };
        if state.shape.is_none() {
            self.node.set_user(AclUser::run(run), sums).await?;
            state.shape = self.node.user(&AclUser::name_of(run)).await?.map(|seen| Shape::of(run, &seen));
        }
        let Some(shape) = &state.shape else { return Ok(Some(Why::Missing)) };
        let why = wrong(run, sums, &seen, shape);
        if why.is_none() {
            state.sure.insert(run.clone(), sums.to_vec());
        }
        Ok(why)
    }

    async fn mend(&self, state: &mut State, change: &Change) -> Result<(), BusError> {
        let why = match change {
            Change::Set { why, .. } => why.as_str(),
            Change::Delete { .. } => "stray",
        };
        self.change(state, change).await?;
        self.metrics.users.add(1, &[KeyValue::new("reason", why)]);
        tracing::info!(node = %self.node.address(), ?change, "a user of a run was not as it should be");
        if let Change::Set { why: Why::Rules, .. } = change {
            // If it is rather the shape that is not what it was, it is learned anew.
            state.shape = None;
        }
        Ok(())
    }

    /// Makes a change now, and not only when it is found to be needed.
    pub(crate) async fn apply(&self, change: &Change) -> Result<(), BusError> {
        let mut state = self.state.lock().await;
        self.change(&mut state, change).await
    }

    async fn change(&self, state: &mut State, change: &Change) -> Result<(), BusError> {
        match change {
            Change::Set { run, sums, why } => {
                self.node.set_user(AclUser::run(run), sums).await?;
                if *why == Why::OldPassword {
                    self.node.cut(&AclUser::name_of(run)).await?;
                }
                state.sure.insert(run.clone(), sums.clone());
            }
            Change::Delete { name } => {
                self.node.delete_user(name).await?;
                if let Some(Ok(run)) = AclUser::run_of(name) {
                    state.sure.remove(&run);
                }
            }
        }
        Ok(())
    }
}
