//! One lane's way into Redis.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use backon::{BackoffBuilder, ExponentialBuilder};
use opentelemetry::trace::SpanContext;
use runcast_bus::{Append, Appended, Bus, BusError, Limits};
use runcast_protocol::{Lane, RunId, Sequence, keys};
use runcast_runtime::MessageTraces;
use runcast_runtime::message_traces::{MessageSpan, Operation, Subject};
use tokio::time::{Instant, sleep, sleep_until};

use crate::dead_letters::{DeadLetters, is_about_the_message};
use crate::gate::Gate;
use crate::lane_queue::{Cut, Standing};
use crate::metrics::Metrics;
use crate::open_lane::{CutBatch, OpenLane};

/// An idle lane asks this often where it stands: it renews the lane's time to live, and a tail that
/// Redis lost, or another writer, shows itself.
const PROBE_EVERY: Duration = Duration::from_secs(10);

/// How often what Redis rejects for good is tried again: somebody may mend the credentials.
pub(crate) const REJECTED_RETRY: Duration = Duration::from_secs(5);

/// How appends are made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// Most messages of a batch.
    pub(crate) messages: usize,
    /// How long after an append messages gather for the next one, unless a batch is full.
    pub(crate) linger: Duration,
    /// Batches above this many bytes are compressed.
    pub(crate) compress_above: usize,
    /// What the stream keeps.
    pub(crate) limits: Limits,
}

/// Another writer holds the lane: this sidecar must stop.
#[derive(Debug, Clone, thiserror::Error)]
#[error(
    "another sidecar writes {lane} of run {run} now (its epoch is {theirs}, ours {ours}); this one stops"
)]
pub struct Fenced {
    /// The run.
    pub run: RunId,
    /// The lane.
    pub lane: Lane,
    /// Our epoch.
    pub ours: u64,
    /// The other writer's.
    pub theirs: u64,
}

/// Appends what a lane's queue holds, one batch at a time, until it is fenced or dropped.
pub(crate) struct LaneWriter {
    pub(crate) run: RunId,
    pub(crate) lane: Arc<OpenLane>,
    pub(crate) bus: Bus,
    pub(crate) gate: Gate,
    pub(crate) graves: Arc<DeadLetters>,
    pub(crate) pace: Pace,
    pub(crate) metrics: Metrics,
    pub(crate) traces: MessageTraces,
}

impl LaneWriter {
    /// Appends what there is, until another writer takes the lane over.
    pub(crate) async fn run(self) -> Fenced {
        let epoch = self.claim().await;
        // At a low rate the linger has passed long ago, and a message leaves at once.
        let mut gather_until = Instant::now();
        // Fewer while the one message is looked for that Redis will not have.
        let mut most = self.pace.messages;
        loop {
            let probe_at = Instant::now() + PROBE_EVERY;
            let settled = match self.next_batch(gather_until, probe_at, most).await {
                Some(batch) => {
                    gather_until = Instant::now() + self.pace.linger;
                    self.append(batch, epoch, &mut most).await
                }
                None => self.probe(epoch).await,
            };
            if let Err(fenced) = settled {
                return fenced;
            }
        }
    }

    /// Waits for the next messages to append; none if it is time to probe instead.
    async fn next_batch(&self, gather_until: Instant, probe_at: Instant, most: usize) -> Option<CutBatch> {
        loop {
            let backlog = self.lane.backlog();
            if backlog.doubted {
                return None;
            }
            let wake_at = if backlog.waiting { gather_until } else { probe_at };
            if backlog.full || Instant::now() >= wake_at {
                return self.lane.next_batch(most);
            }
            tokio::select! {
                () = self.lane.work() => {}
                () = sleep_until(wake_at) => {}
            }
        }
    }

    async fn append(&self, batch: CutBatch, epoch: u64, most: &mut usize) -> Result<(), Fenced> {
        let CutBatch { cut, batch, traces } = batch;
        let Cut { first, last, after } = cut;
        let mut span = self.span(cut, &traces);
        let batch = batch.finish(self.pace.compress_above);
        let (run, lane) = (self.run.clone(), self.lane.lane.clone());
        let append = Append { run, lane, epoch, first, last, batch, after };
        let started = Instant::now();
        // The very same batch, until Redis answers: the append script knows what it has already.
        match self.ask(|| self.bus.append(append.clone(), self.pace.limits)).await {
            Ok(reply) => {
                drop(span);
                if matches!(reply, Appended::Done { .. }) {
                    self.metrics.batch(self.lane.lane.channel, cut, started.elapsed());
                }
                *most = most.saturating_mul(2).min(self.pace.messages);
                self.settle(reply, epoch)
            }
            Err(error) => {
                if let Some(span) = &mut span {
                    span.fail(&error);
                }
                drop(span);
                let count = cut.last.get() - cut.first.get() + 1;
                *most = usize::try_from(count / 2).unwrap_or(1).max(1);
                if count == 1 { self.bury(last, &error, epoch).await } else { Ok(()) }
            }
        }
    }

    /// Lasts until Redis has the batch, if any of its messages is sampled.
    fn span(&self, cut: Cut, traces: &[SpanContext]) -> Option<MessageSpan> {
        if traces.is_empty() {
            return None;
        }
        let (lane, count) = (&self.lane.lane, cut.last.get() - cut.first.get() + 1);
        let stream = keys::stream(&self.run, lane);
        let subject = Subject { channel: lane.channel.as_str(), stream, count: usize::try_from(count).ok() };
        let mut span = self.traces.begin(Operation::Append, &subject, traces, SystemTime::now())?;
        span.set("runcast.sequence.last", cut.last.get() as i64);
        Some(span)
    }

    /// Redis will never have this message: it goes where it can be looked at, and leaves a hole.
    async fn bury(&self, number: Sequence, error: &BusError, epoch: u64) -> Result<(), Fenced> {
        // A lane that takes nothing at all, broken by whoever, must not be emptied into the graves: what
        // is refused without a message is not the message's fault.
        match self.ask(|| self.bus.probe(&self.run, &self.lane.lane, epoch, self.pace.limits)).await {
            Ok(reply) => self.settle(reply, epoch)?,
            Err(error) => {
                self.tell_rejected(&error).await;
                return Ok(());
            }
        }
        // Cut again it is the same one, unless Redis has lost a tail: nothing else was appended.
        if let Some(CutBatch { cut, batch, .. }) = self.lane.next_batch(1)
            && cut.first == number
        {
            let original = batch.finish(usize::MAX);
            self.graves.bury(&error.to_string(), &self.lane.lane, Some(number), original).await;
            self.lane.give_up(number);
        }
        Ok(())
    }

    async fn probe(&self, epoch: u64) -> Result<(), Fenced> {
        self.lane.doubt_no_more();
        let probe = || self.bus.probe(&self.run, &self.lane.lane, epoch, self.pace.limits);
        self.settle(self.insist(probe).await, epoch)
    }

    fn settle(&self, reply: Appended, ours: u64) -> Result<(), Fenced> {
        let fenced = |theirs| Fenced { run: self.run.clone(), lane: self.lane.lane.clone(), ours, theirs };
        let (last, rewound) = match reply {
            Appended::Done { last, .. } => (last, false),
            Appended::Rewind { last } => (last, true),
            Appended::Fenced { epoch } => return Err(fenced(epoch)),
        };
        let lost_tail = self.lane.exposed().is_some_and(|stood| last < stood);
        if rewound || lost_tail {
            tracing::warn!(lane = %self.lane.lane, %last, "redis stands elsewhere than expected; sending again from there");
            self.metrics.rewinds.add(1, &[]);
        }
        match self.lane.stands_at(last) {
            Standing::Sound => {}
            Standing::Hole { lost } => self.tell_hole(last, lost),
            Standing::Ahead => return Err(fenced(ours)),
        }
        Ok(())
    }

    pub(crate) fn tell_hole(&self, last: Sequence, lost: u64) {
        tracing::error!(
            lane = %self.lane.lane, %last, lost,
            "redis lost messages that it had confirmed and that are no longer held here; going on after the hole"
        );
        self.metrics.lost.add(lost, &[]);
    }

    /// [`Self::ask`] where nothing in the question can be at fault.
    pub(crate) async fn insist<F: Future<Output = Result<Appended, BusError>>>(
        &self,
        mut attempt: impl FnMut() -> F,
    ) -> Appended {
        loop {
            match self.ask(&mut attempt).await {
                Ok(reply) => return reply,
                Err(error) => self.tell_rejected(&error).await,
            }
        }
    }

    /// Asks Redis until it answers.
    ///
    /// # Errors
    /// If it rejects this very question, which trying again would not change.
    async fn ask<F: Future<Output = Result<Appended, BusError>>>(
        &self,
        mut attempt: impl FnMut() -> F,
    ) -> Result<Appended, BusError> {
        let mut backoff = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(20))
            .with_max_delay(Duration::from_secs(2))
            .without_max_times()
            .with_jitter()
            .build();
        let mut told = false;
        loop {
            let leave = self.gate.pass().await;
            let error = match attempt().await {
                Ok(reply) => {
                    leave.succeeded();
                    if told {
                        tracing::info!(lane = %self.lane.lane, "redis takes appends again");
                    }
                    return Ok(reply);
                }
                Err(error) => error,
            };
            self.metrics.append_errors.add(1, &[]);
            if error.is_transient() {
                leave.failed();
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!(%error, lane = %self.lane.lane, "append failed; trying until it succeeds");
                }
                sleep(backoff.next().unwrap_or(REJECTED_RETRY)).await;
            } else {
                // It is there, and says something.
                leave.succeeded();
                if is_about_the_message(&error) {
                    return Err(error);
                }
                told = true;
                self.tell_rejected(&error).await;
            }
        }
    }

    async fn tell_rejected(&self, error: &BusError) {
        tracing::error!(%error, lane = %self.lane.lane, "redis refuses the append; trying again every 5 s");
        sleep(REJECTED_RETRY).await;
    }
}
