//! Follows one run until it is over: ends what expires, declares who is lost, and sees to the run's end.

use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use runcast_bus::{Inbox, Limits, Subscriber};
use runcast_protocol::{State, VariationId, keys};
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::config::{LeaseConfig, RetentionConfig};
use crate::lease_watch::LeaseWatch;
use crate::plan::{self, ours};
use crate::reader::CHANNELS;
use crate::run::{NotDecided, Run, RunContext};

/// How often leases are looked at.
const LEASES_EVERY: Duration = Duration::from_millis(500);

/// How often a run is looked at although nothing was heard of it: pub/sub loses messages.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// How long a run that is over or gone is still followed: a variation that was declared lost may come back.
const LINGER: Duration = Duration::from_secs(30);

/// Wake-ups that may wait; one is as good as many.
const INBOX: usize = 16;

/// What a follower needs.
pub(crate) struct Follower {
    pub(crate) run: Arc<Run>,
    pub(crate) context: RunContext,
    pub(crate) inbox: Inbox,
    pub(crate) lease: LeaseConfig,
    pub(crate) retention: RetentionConfig,
}

impl Follower {
    pub(crate) fn new(
        run: Arc<Run>,
        context: RunContext,
        subscriber: &Subscriber,
        lease: LeaseConfig,
        retention: RetentionConfig,
    ) -> Self {
        Self { run, context, inbox: subscriber.inbox(INBOX), lease, retention }
    }

    /// Follows until the run has been over for a while.
    pub(crate) async fn run(mut self) {
        self.context.metrics.runs.add(1, &[]);
        self.inbox.subscribe(CHANNELS.map(|channel| keys::stream(&self.run.id, &ours(channel)))).await;
        let mut watch = LeaseWatch::new(self.lease.grace);
        let (mut leases, mut look) = (interval(LEASES_EVERY), interval(LOOK_EVERY));
        leases.set_missed_tick_behavior(MissedTickBehavior::Delay);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Whether its end was seen to, and since when there is nothing to do.
        let (mut seen_to, mut idle_since) = (false, None);
        loop {
            let deadline = self.run.look(super::run_log::RunLog::next_deadline).await;
            tokio::select! {
                _ = self.inbox.next() => self.heard().await,
                () = until(deadline) => self.expire().await,
                _ = leases.tick() => self.check_leases(&mut watch).await,
                _ = look.tick() => self.refresh().await,
            }
            let (exists, state) = self.run.look(|log| (log.exists(), log.state())).await;
            if !exists {
                // Deleted; it may be begun anew.
                seen_to = false;
                idle_since.get_or_insert_with(Instant::now);
            } else if !state.is_terminal() {
                if seen_to && !self.goes_on().await {
                    continue;
                }
                (seen_to, idle_since) = (false, None);
            } else if !seen_to && self.end().await {
                (seen_to, idle_since) = (true, Some(Instant::now()));
            }
            let waiting = self.run.look(super::run_log::RunLog::next_deadline).await.is_some();
            if !waiting && idle_since.is_some_and(|since: Instant| since.elapsed() > LINGER) {
                break;
            }
        }
        self.context.metrics.runs.add(-1, &[]);
    }

    /// One look at the streams answers any number of wake-ups.
    async fn heard(&mut self) {
        while self.inbox.try_next().is_some() {}
        self.refresh().await;
    }

    async fn refresh(&self) {
        if let Err(error) = self.run.refresh().await {
            tracing::debug!(run = %self.run.id, %error, "could not read the run; trying again");
        }
    }

    async fn expire(&self) {
        let mut expired = 0;
        let decided = self.run.decide::<NotDecided>(|log| {
            let plan = plan::expire(log, Timestamp::now());
            expired = plan.as_ref().map_or(0, |plan| plan.items.len());
            Ok(plan)
        });
        match decided.await {
            Ok(()) => self.context.metrics.expired.add(expired as u64, &[]),
            Err(error) => {
                tracing::debug!(run = %self.run.id, %error, "could not end what has expired; trying again");
                sleep(LEASES_EVERY).await;
            }
        }
    }

    async fn check_leases(&self, watch: &mut LeaseWatch) {
        let at_work: Vec<VariationId> = self
            .run
            .look(|log| {
                let said = log.variations().iter().filter(|(_, variation)| {
                    variation.status.as_ref().is_some_and(|status| status.state == State::Running)
                });
                said.map(|(variation, _)| variation.clone()).collect()
            })
            .await;
        let leases = match self.context.bus.leases(&self.run.id, &at_work).await {
            Ok(leases) => leases,
            Err(error) => {
                tracing::debug!(run = %self.run.id, %error, "could not look at the leases");
                return watch.failed();
            }
        };
        let held = at_work.into_iter().zip(leases.iter().map(Option::is_some));
        let lapsed = watch.checked(Instant::now(), held);
        if !lapsed.is_empty() {
            self.lose(&lapsed).await;
        }
    }

    async fn lose(&self, lapsed: &[VariationId]) {
        let mut lost = 0;
        let decided = self.run.decide::<NotDecided>(|log| {
            let plan = plan::lose(log, lapsed, "its sidecar gave no sign of life");
            lost = plan.as_ref().map_or(0, |plan| plan.items.len());
            Ok(plan)
        });
        match decided.await {
            Ok(()) if lost > 0 => {
                self.context.metrics.lost.add(lost as u64, &[]);
                tracing::warn!(run = %self.run.id, variations = ?lapsed, "declared lost: no sign of life of their sidecars");
            }
            Ok(()) => {}
            Err(error) => tracing::debug!(run = %self.run.id, %error, "could not declare lost; trying again"),
        }
    }

    /// The run was over, and is no longer: its sidecars may stay. True if that was done.
    async fn goes_on(&self) -> bool {
        let Some(users) = &self.context.users else { return true };
        let done = users.run_is_over(&self.run.id, false).await;
        if let Err(error) = &done {
            tracing::debug!(run = %self.run.id, %error, "could not let its sidecars stay; trying again");
        }
        done.is_ok()
    }

    /// The run is over: says so to those who watch all runs, and keeps it for less. True if that was done.
    async fn end(&self) -> bool {
        let (state, ended) = self.run.look(|log| (log.state(), log.ended())).await;
        let time = ended.map(|time| time.to_string());
        let event =
            json!({"event": "ended", "run_id": self.run.id.as_str(), "state": state.as_str(), "time": time});
        let limits = Limits { ttl: self.retention.feed, ..self.context.limits };
        let done = async {
            self.context.bus.tell_lifecycle(&self.run.id, event.to_string().into(), limits).await?;
            if let Some(users) = &self.context.users {
                users.run_is_over(&self.run.id, true).await?;
            }
            self.context.bus.retain(&self.run.id, self.retention.ended).await
        };
        match done.await {
            Ok(_) => {
                tracing::info!(run = %self.run.id, %state, "run is over");
                true
            }
            Err(error) => {
                tracing::debug!(run = %self.run.id, %error, "could not see to the run's end; trying again");
                false
            }
        }
    }
}

/// Sleeps until a moment of the wall clock; for ever without one.
async fn until(time: Option<Timestamp>) {
    match time {
        Some(time) => sleep(time.duration_since(Timestamp::now()).try_into().unwrap_or_default()).await,
        None => pending().await,
    }
}
