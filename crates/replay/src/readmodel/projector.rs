//! Keeps the read models of all runs up to date: each run has a bounded turn, then the others.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use runcast_protocol::RunId;
use tokio::time::Instant;

use super::catalog::Order;
use super::report::RunSummary;
use super::work::{Turn, Work};
use crate::context::Context;

/// Runs that have their turn at the same time.
const AT_ONCE: usize = 16;
/// Runs that have their turn before discovery and orders are looked at again.
const BATCH: usize = 64;
/// How often Redis is searched for runs, at most.
const DISCOVERY: Duration = Duration::from_secs(1);
/// How often the archive is asked what it has.
const ARCHIVE: Duration = Duration::from_secs(10);
/// Archived runs that are read at the same time.
const ARCHIVED_AT_ONCE: usize = 32;
/// A run that says nothing is looked at less and less often: at work, and when it is over.
const QUIET: Duration = Duration::from_secs(5);
const OVER: Duration = Duration::from_secs(60);

/// Keeps the read models up to date.
#[derive(Debug)]
pub(super) struct Projector {
    context: Context,
    interval: Duration,
    runs: BTreeMap<RunId, Scheduled>,
    /// When each run has its next turn.
    schedule: BTreeSet<(Instant, RunId)>,
    next_discovery: Instant,
    next_archive: Instant,
}

#[derive(Debug)]
struct Scheduled {
    /// None while it has its turn.
    work: Option<Work>,
    at: Instant,
    pause: Duration,
}

impl Projector {
    pub(super) fn new(context: Context, interval: Duration) -> Self {
        let now = Instant::now();
        let (runs, schedule) = (BTreeMap::new(), BTreeSet::new());
        Self { context, interval, runs, schedule, next_discovery: now, next_archive: now }
    }

    /// Keeps the read models up to date until shutdown.
    pub(super) async fn run(mut self) {
        let (shutdown, catalog) = (self.context.shutdown.clone(), self.context.catalog.clone());
        let work = async {
            loop {
                let next = self.schedule.first().map_or(self.next_discovery, |(at, _)| *at);
                let next = next.min(self.next_discovery).min(self.next_archive);
                tokio::select! {
                    () = tokio::time::sleep_until(next) => {}
                    () = catalog.ordered() => {}
                }
                self.step().await;
            }
        };
        tokio::select! {
            () = shutdown.triggered() => {}
            () = work => {}
        }
    }

    async fn step(&mut self) {
        if self.next_archive <= Instant::now() {
            self.follow_archive().await;
        }
        if self.next_discovery <= Instant::now() {
            self.discover().await;
        }
        for (run, order) in self.context.catalog.take_orders() {
            self.obey(run, order);
        }
        self.turns().await;
    }

    /// Finds the runs that Redis knows.
    async fn discover(&mut self) {
        let begun = Instant::now();
        match self.context.bus.runs().await {
            Ok(found) => {
                for run in found {
                    if !self.runs.contains_key(&run) {
                        self.schedule(Work::new(run), Duration::ZERO, Duration::ZERO);
                    }
                }
            }
            Err(error) => tracing::debug!(%error, "could not search redis for runs"),
        }
        // A large Redis takes long to search, and is not searched all the time.
        self.next_discovery = Instant::now() + DISCOVERY.max(begun.elapsed() * 20);
    }

    /// Learns which runs the archive holds, and reads those that nobody else knows.
    async fn follow_archive(&mut self) {
        self.next_archive = Instant::now() + ARCHIVE;
        let archived: BTreeSet<RunId> = match self.context.archive.runs().await {
            Ok(runs) => runs.into_iter().collect(),
            Err(error) => return tracing::warn!(%error, "could not ask the archive for its runs"),
        };
        let unknown = self.context.catalog.learn_archived(archived, |run| self.runs.contains_key(run));
        let reading = stream::iter(unknown).map(|run| {
            let context = self.context.clone();
            async move {
                match context.archive.run(&run).await {
                    Ok(Some(archived)) if context.catalog.get(&run).is_none() => {
                        context.catalog.put(RunSummary::of(&run, archived.summary(), true));
                    }
                    Ok(_) => {}
                    Err(error) => tracing::warn!(%run, %error, "could not read an archived run"),
                }
            }
        });
        reading.buffer_unordered(ARCHIVED_AT_ONCE).collect::<()>().await;
    }

    fn obey(&mut self, run: RunId, order: Order) {
        let known =
            self.runs.get_mut(&run).and_then(|scheduled| Some((scheduled.work.take()?, scheduled.at)));
        match known {
            Some((mut work, at)) => {
                self.schedule.remove(&(at, run));
                if order == Order::Reload {
                    work.reload();
                }
                self.schedule(work, Duration::ZERO, Duration::ZERO);
            }
            None => self.schedule(Work::new(run), Duration::ZERO, Duration::ZERO),
        }
    }

    /// Gives those runs a turn for which it is time.
    async fn turns(&mut self) {
        let mut due = Vec::new();
        while due.len() < BATCH
            && let Some((at, _)) = self.schedule.first()
            && *at <= Instant::now()
            && let Some((_, run)) = self.schedule.pop_first()
            && let Some(scheduled) = self.runs.get_mut(&run)
        {
            due.extend(scheduled.work.take().map(|work| (work, scheduled.pause)));
        }
        let context = &self.context;
        let turns = stream::iter(due).map(|(mut work, pause)| async move {
            let turn = work.turn(context).await;
            (work, pause, turn)
        });
        let done: Vec<_> = turns.buffer_unordered(AT_ONCE).collect().await;
        for (mut work, pause, turn) in done {
            match turn {
                Ok(Turn::Gone) => self.let_go(work.run()).await,
                Ok(Turn::Moved { more: true }) => self.schedule(work, Duration::ZERO, Duration::ZERO),
                Ok(Turn::Moved { more: false }) => self.schedule(work, self.interval, Duration::ZERO),
                Ok(Turn::Quiet { is_over }) => {
                    let limit = if is_over { OVER } else { QUIET }.max(self.interval);
                    let pause = (pause * 2).max(self.interval).min(limit);
                    if pause == limit {
                        work.rest();
                    }
                    self.schedule(work, pause, pause);
                }
                Err(error) => {
                    tracing::debug!(run = %work.run(), %error, "could not bring a read model up to date");
                    self.schedule(work, self.interval, Duration::ZERO);
                }
            }
        }
    }

    /// Redis knows a run no more. What was learnt of it stays if the archive has it, also if that was since
    /// the archive was last asked for all.
    async fn let_go(&mut self, run: &RunId) {
        match self.context.archive.run(run).await {
            Ok(Some(archived)) if self.context.catalog.get(run).is_none() => {
                self.context.catalog.put(RunSummary::of(run, archived.summary(), true));
            }
            Ok(Some(_)) => {}
            Ok(None) => self.context.catalog.expire(run),
            Err(error) => tracing::warn!(%run, %error, "could not ask the archive for a run"),
        }
        self.runs.remove(run);
    }

    fn schedule(&mut self, work: Work, after: Duration, pause: Duration) {
        let (run, at) = (work.run().clone(), Instant::now() + after);
        self.schedule.insert((at, run.clone()));
        self.runs.insert(run, Scheduled { work: Some(work), at, pause });
    }
}
