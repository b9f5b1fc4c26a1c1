//! All the runs that this replica follows: every one that is not over, whoever began it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use runcast_bus::{BusError, Subscriber};
use runcast_protocol::RunId;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::task::AbortOnDropHandle;

use crate::config::{LeaseConfig, RetentionConfig, RunsConfig};
use crate::follower::Follower;
use crate::run::{Run, RunContext};

/// How often a run that is over is looked at again: a variation that was declared lost may come back.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// All the runs. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Runs {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    context: RunContext,
    subscriber: Subscriber,
    lease: LeaseConfig,
    retention: RetentionConfig,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    followed: HashMap<RunId, Followed>,
    /// Runs that were over when they were last looked at.
    over: HashMap<RunId, Instant>,
}

#[derive(Debug)]
struct Followed {
    run: Arc<Run>,
    task: AbortOnDropHandle<()>,
}

impl Runs {
    /// None is followed yet.
    pub fn new(
        context: RunContext,
        subscriber: Subscriber,
        lease: LeaseConfig,
        retention: RetentionConfig,
    ) -> Self {
        Self { shared: Arc::new(Shared { context, subscriber, lease, retention, known: Mutex::default() }) }
    }

    /// What runs need.
    pub fn context(&self) -> &RunContext {
        &self.shared.context
    }

    /// How long things are kept.
    pub fn retention(&self) -> &RetentionConfig {
        &self.shared.retention
    }

    /// A run as it stands now; none if nothing was ever said of it.
    ///
    /// # Errors
    /// [`BusError`] if Redis cannot be asked.
    pub async fn open(&self, id: &RunId) -> Result<Option<Arc<Run>>, BusError> {
        let run = self.begin(id);
        run.refresh().await?;
        if !run.look(super::run_log::RunLog::exists).await {
            return Ok(None);
        }
        Ok(Some(self.follow(run)))
    }

    /// A run as far as it is known here, of which perhaps nothing was ever said.
    pub fn begin(&self, id: &RunId) -> Arc<Run> {
        let known = self.shared.lock();
        let followed = known.followed.get(id).filter(|followed| !followed.task.is_finished());
        followed.map_or_else(
            || Arc::new(Run::new(id.clone(), self.shared.context.clone())),
            |followed| followed.run.clone(),
        )
    }

    /// Those that are followed.
    pub fn followed(&self) -> Vec<RunId> {
        self.shared.lock().followed.keys().cloned().collect()
    }

    /// Follows a run from now on; returns it as it is followed.
    pub fn follow(&self, run: Arc<Run>) -> Arc<Run> {
        let mut known = self.shared.lock();
        known.over.remove(&run.id);
        if let Some(followed) = known.followed.get(&run.id)
            && !followed.task.is_finished()
        {
            return followed.run.clone();
        }
        let Shared { context, subscriber, lease, retention, .. } = &*self.shared;
        let follower = Follower::new(run.clone(), context.clone(), subscriber, *lease, *retention);
        let task = AbortOnDropHandle::new(tokio::spawn(follower.run()));
        known.followed.insert(run.id.clone(), Followed { run: run.clone(), task });
        run
    }

    /// Finds the runs that nobody told us of, for ever.
    pub async fn discover(self, config: RunsConfig) {
        let mut tick = interval(config.discover_interval);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let found = match self.shared.context.bus.runs().await {
                Ok(found) => found,
                Err(error) => {
                    tracing::debug!(%error, "could not look for runs");
                    continue;
                }
            };
            for id in self.unknown(&found) {
                if let Err(error) = self.look_at(&id).await {
                    tracing::debug!(run = %id, %error, "could not look at a run");
                }
            }
        }
    }

    /// Those of `found` that are not followed, nor were over a moment ago. Forgets those that are gone.
    fn unknown(&self, found: &[RunId]) -> Vec<RunId> {
        let mut known = self.shared.lock();
        let ended: Vec<RunId> = known
            .followed
            .iter()
            .filter(|(_, run)| run.task.is_finished())
            .map(|(id, _)| id.clone())
            .collect();
        for id in ended {
            known.followed.remove(&id);
            known.over.insert(id, Instant::now());
        }
        known.over.retain(|id, _| found.binary_search(id).is_ok());
        let is_new = |id: &&RunId| {
            let over = known.over.get(*id).is_some_and(|since| since.elapsed() < LOOK_AGAIN);
            !over && !known.followed.contains_key(*id)
        };
        found.iter().filter(is_new).cloned().collect()
    }

    async fn look_at(&self, id: &RunId) -> Result<(), BusError> {
        let run = self.begin(id);
        run.refresh().await?;
        let seen = self.shared.lock().over.contains_key(id);
        if seen && run.look(super::run_log::RunLog::state).await.is_terminal() {
            self.shared.lock().over.insert(id.clone(), Instant::now());
        } else {
            // One that is over already and new to us: its end may not have been seen to.
            self.follow(run);
        }
        Ok(())
    }
}

impl Shared {
    // A panic while holding the lock leaves maps that work.
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
