//! Lends what only the archive has to the other services, through Redis.
//!
//! All replicas hear all requests; of those that do, one takes it. The answer is a key that lives for a
//! moment, so that all who ask for the same find it. What is asked next is read ahead.

mod ledger;
mod page;
mod recent;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use runcast_bus::{PastRequests, Subscriber};
use runcast_protocol::{Channel, Lane, PastRequest, PastRun, RunState, Selection, Sequence};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::task::AbortOnDropHandle;

use crate::archive::ArchivedRun;
use crate::config::RestoreConfig;
use crate::context::Context;
use crate::error::Error;
use crate::restore::ledger::Ledger;
use crate::restore::page::Page;
use crate::restore::recent::Recent;

/// How long, and how often, others are told that requests are heard. Often, so that a Redis that was
/// emptied says so soon.
const ALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(1));
/// Pages that are read ahead.
const AHEAD: usize = 2;
/// How long an answer counts that may be another one soon: there is nothing, or the run is not over.
const PASSING: Duration = Duration::from_secs(5);
/// Who asks has given up by then.
const WITHIN: Duration = Duration::from_secs(10);

/// Answers requests until shutdown.
pub async fn run(context: Context, subscriber: Subscriber, config: RestoreConfig) {
    let mut requests = PastRequests::listen(&subscriber).await;
    let _alive = AbortOnDropHandle::new(tokio::spawn(tell_alive(context.clone())));
    let (shutdown, metrics) = (context.shutdown.clone(), context.metrics.clone());
    let free = Arc::new(Semaphore::new(config.concurrency.get()));
    let lender = Arc::new(Lender::new(context, config));
    // Aborted when dropped: what is not answered is asked again, of another replica.
    let mut tasks = JoinSet::new();
    loop {
        // One that is at work holds back the next: it waits in the inbox, and what does not fit in there
        // is asked again.
        let next = async { (free.clone().acquire_owned().await, requests.next().await) };
        let (permit, request) = tokio::select! {
            () = shutdown.triggered() => return,
            next = next => next,
        };
        while tasks.try_join_next().is_some() {}
        match request {
            Ok(request) => {
                let lender = lender.clone();
                tasks.spawn(async move {
                    lender.answer(&request).await;
                    drop(permit);
                });
            }
            Err(error) => {
                metrics.restore_malformed.add(1, &[]);
                tracing::debug!(%error, "what was asked of the past is no request");
            }
        }
    }
}

/// Nobody waits for answers unless somebody is known to listen.
async fn tell_alive(context: Context) {
    let mut tick = tokio::time::interval(ALIVE.1);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        if let Err(error) = context.bus.tell_replay_alive(ALIVE.0).await {
            tracing::debug!(%error, "could not say that requests are heard");
        }
    }
}

/// What answers requests.
#[derive(Debug)]
struct Lender {
    context: Context,
    ttl: Duration,
    recent: Recent,
    ledger: Mutex<Ledger>,
}

impl Lender {
    fn new(context: Context, config: RestoreConfig) -> Self {
        let memory = usize::try_from(config.memory.as_u64()).unwrap_or(usize::MAX);
        let ledger = Mutex::new(Ledger::new(memory));
        Self { context, ttl: config.ttl, recent: Recent::default(), ledger }
    }

    async fn answer(&self, request: &PastRequest) {
        self.context.metrics.restore_requests.add(1, &[]);
        let failed: &dyn std::fmt::Display =
            match tokio::time::timeout(WITHIN, self.try_answer(request)).await {
                Ok(Ok(())) => return,
                Ok(Err(error)) => &error.to_string(),
                Err(_) => &format!("not within {WITHIN:?}"),
            };
        self.context.metrics.restore_failed.add(1, &[]);
        tracing::warn!(key = request.key(), error = %failed, "could not restore from the archive");
    }

    async fn try_answer(&self, request: &PastRequest) -> Result<(), Error> {
        if !self.context.bus.take_past(request).await? {
            return Ok(());
        }
        match &request.page {
            None => self.answer_run(request).await,
            Some((lane, after)) => self.answer_page(request, lane, *after).await,
        }
    }

    async fn answer_run(&self, request: &PastRequest) -> Result<(), Error> {
        let Some(archived) = self.context.archive.run(&request.run).await? else {
            return self.lend(request, Bytes::new(), PASSING).await;
        };
        let state = read_state(&archived).await?;
        let is_over = state.end(&request.run, &Selection::default()).is_some();
        let past = PastRun {
            cursor: archived.cursor().clone(),
            variations: state.variations().clone(),
            expected: state.expected(),
        };
        self.lend(request, past.to_json().into(), if is_over { self.ttl } else { PASSING }).await
    }

    async fn answer_page(&self, request: &PastRequest, lane: &Lane, after: Sequence) -> Result<(), Error> {
        let archive = &self.context.archive;
        let holds = |archived: &ArchivedRun| archived.cursor().position(lane) > after;
        let Some(archived) = self.recent.run(archive, &request.run, holds).await? else {
            return self.lend(request, Bytes::new(), PASSING).await;
        };
        let mut wanted = request.clone();
        let mut after = after;
        for ahead in 0..=AHEAD {
            if ahead > 0 {
                wanted = PastRequest::page(request.run.clone(), lane.clone(), after);
                // What was asked for is not taken back for what may be.
                let is_wanted = archived.cursor().position(lane) > after
                    && self.ledger().has_room(page::BYTES, Instant::now());
                if !is_wanted || !self.context.bus.take_past(&wanted).await? {
                    break;
                }
            }
            let page = Page::read(&archived, lane, after).await?;
            if page.is_empty() {
                return self.lend(&wanted, Bytes::new(), PASSING).await;
            }
            after = page.last();
            self.context.metrics.restore_messages.add(page.messages(), &[]);
            self.lend(&wanted, page.finish(), self.ttl).await?;
        }
        Ok(())
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes an answer; takes older ones back where there would be too many.
    async fn lend(&self, request: &PastRequest, answer: Bytes, ttl: Duration) -> Result<(), Error> {
        let now = Instant::now();
        let too_many = self.ledger().lend(request, answer.len(), now, now + ttl);
        for old in too_many {
            self.context.bus.withdraw_past(&old).await?;
        }
        self.context.metrics.restore_bytes.add(answer.len() as u64, &[]);
        Ok(self.context.bus.answer_past(request, answer, ttl).await?)
    }
}

async fn read_state(archived: &ArchivedRun) -> Result<RunState, Error> {
    let mut state = RunState::default();
    for (lane, last) in archived.cursor().lanes() {
        if let Some(variation) = lane.writer.variation() {
            state.learn(variation);
        }
        let mut after = Sequence::NONE;
        while lane.channel == Channel::Status && after < last {
            let entries = archived.after(&lane, after).await?;
            let Some(entry) = entries.last() else { break };
            after = entry.sequence;
            state.apply(&lane, &entries);
        }
    }
    Ok(state)
}
