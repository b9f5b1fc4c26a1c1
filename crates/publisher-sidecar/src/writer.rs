//! One lane's way into Redis.

use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use bytes::Bytes;
use runcast_bus::{Append, Appended, Bus, BusError, Limits};
use runcast_protocol::{BatchWriter, Lane, RunId, Sequence};
use tokio::time::{Instant, sleep, sleep_until};

use crate::identity::Identity;
use crate::lane_queue::{BatchLimits, Cut, Standing};
use crate::metrics::Metrics;
use crate::open_lane::OpenLane;
use crate::store::Store;

/// An idle lane asks this often where it stands: it renews the lane's time to live, and a tail that
/// Redis lost, or another writer, shows itself.
const PROBE_EVERY: Duration = Duration::from_secs(10);

/// How often what Redis rejects for good is tried again: somebody may mend the credentials.
const REJECTED_RETRY: Duration = Duration::from_secs(5);

/// How appends are made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// How much a batch holds.
    pub(crate) batch: BatchLimits,
    /// How long after an append messages gather for the next one, unless a batch is full.
    pub(crate) linger: Duration,
    /// Batches above this many bytes are compressed.
    pub(crate) compress_above: usize,
    /// Whether what is appended counts as safe at once; for experiments.
    pub(crate) forget_appended: bool,
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
    pub(crate) identity: Identity,
    pub(crate) lane: Arc<OpenLane>,
    pub(crate) store: Store,
    pub(crate) bus: Bus,
    pub(crate) pace: Pace,
    pub(crate) metrics: Metrics,
}

impl LaneWriter {
    pub(crate) async fn run(self) -> Fenced {
        let epoch = self.claim().await;
        // At a low rate the linger has passed long ago, and a message leaves at once.
        let mut gather_until = Instant::now();
        loop {
            let probe_at = Instant::now() + PROBE_EVERY;
            let settled = match self.next_cut(gather_until, probe_at).await {
                Some(cut) => {
                    gather_until = Instant::now() + self.pace.linger;
                    self.append(cut, epoch).await
                }
                None => self.probe(epoch).await,
            };
            if let Err(fenced) = settled {
                return fenced;
            }
        }
    }

    async fn claim(&self) -> u64 {
        loop {
            match self.ask(|| self.bus.claim(&self.run, &self.lane.lane, self.pace.limits)).await {
                Appended::Done { last, epoch } => {
                    tracing::debug!(lane = %self.lane.lane, %last, epoch, "lane claimed");
                    self.begin(last).await;
                    return epoch;
                }
                reply => {
                    tracing::error!(?reply, lane = %self.lane.lane, "redis refuses the claim; trying again");
                    sleep(REJECTED_RETRY).await;
                }
            }
        }
    }

    /// The lane is ours, and stands at `last`: goes on from an earlier sidecar's journal, or begins.
    async fn begin(&self, last: Sequence) {
        let channel = self.lane.lane.channel;
        if !self.lane.lock().queue.is_claimed() {
            // Noted before the first append, or after a crash the numbers would be others.
            while let Err(error) = self.store.origin(channel, last) {
                tracing::error!(%error, lane = %self.lane.lane, "cannot write to the journal; trying again");
                sleep(REJECTED_RETRY).await;
            }
            return self.lane.update(|queue| queue.claimed(last));
        }
        match self.lane.update(|queue| queue.stands_at(last)) {
            Standing::Sound => {}
            Standing::Hole { lost } => self.tell_hole(last, lost),
            Standing::Ahead => {
                tracing::error!(
                    lane = %self.lane.lane, %last,
                    "another sidecar wrote this lane since the journal was left; what it holds is numbered anew"
                );
                let origin = self.lane.update(|queue| queue.renumber(last));
                if let Err(error) = self.store.origin(channel, origin) {
                    tracing::error!(%error, "cannot note in the journal where the lane goes on");
                }
            }
        }
    }

    /// Waits for the next messages to append; none if it is time to probe instead.
    async fn next_cut(&self, gather_until: Instant, probe_at: Instant) -> Option<Cut> {
        loop {
            let (waiting, full) = self.lane.backlog();
            let wake_at = if waiting { gather_until } else { probe_at };
            if self.lane.take_probe() {
                return None;
            }
            if full || Instant::now() >= wake_at {
                return self.lane.lock().queue.cut(self.pace.batch);
            }
            tokio::select! {
                () = self.lane.work() => {}
                () = sleep_until(wake_at) => {}
            }
        }
    }

    async fn append(&self, cut: Cut, epoch: u64) -> Result<(), Fenced> {
        let batch = self.encode(cut);
        let Cut { first, last, rebase } = cut;
        let append =
            Append { run: self.run.clone(), lane: self.lane.lane.clone(), epoch, first, last, batch, rebase };
        let started = Instant::now();
        // The very same batch, until Redis answers: the append script knows what it has already.
        let reply = self.ask(|| self.bus.append(append.clone(), self.pace.limits)).await;
        if matches!(reply, Appended::Done { .. }) {
            self.metrics.batch(self.lane.lane.channel, cut, started.elapsed());
        }
        self.settle(reply, epoch)
    }

    async fn probe(&self, epoch: u64) -> Result<(), Fenced> {
        let reply = self.ask(|| self.bus.probe(&self.run, &self.lane.lane, epoch, self.pace.limits)).await;
        self.settle(reply, epoch)
    }

    fn encode(&self, cut: Cut) -> Bytes {
        let mut batch = BatchWriter::default();
        for (number, held) in self.lane.lock().queue.items_mut(cut) {
            let mut message = self.store.load(self.lane.lane.channel, held, &self.identity);
            message.sequence = number;
            batch.push(&message.to_line());
        }
        batch.finish(self.pace.compress_above)
    }

    fn settle(&self, reply: Appended, ours: u64) -> Result<(), Fenced> {
        let fenced = |theirs| Fenced { run: self.run.clone(), lane: self.lane.lane.clone(), ours, theirs };
        let last = match reply {
            Appended::Done { last, .. } => last,
            Appended::Rewind { last } => {
                tracing::warn!(lane = %self.lane.lane, %last, "redis stands elsewhere than expected; sending again from there");
                self.metrics.rewinds.add(1, &[]);
                last
            }
            Appended::Fenced { epoch } => return Err(fenced(epoch)),
        };
        let standing = self.lane.update(|queue| queue.stands_at(last));
        if self.pace.forget_appended {
            self.lane.secure(last);
        }
        match standing {
            Standing::Sound => {}
            Standing::Hole { lost } => self.tell_hole(last, lost),
            Standing::Ahead => return Err(fenced(ours)),
        }
        Ok(())
    }

    fn tell_hole(&self, last: Sequence, lost: u64) {
        tracing::error!(
            lane = %self.lane.lane, %last, lost,
            "redis lost messages that it had confirmed and that are no longer held here; going on after the hole"
        );
        self.metrics.lost.add(lost, &[]);
    }

    /// Asks Redis until it answers.
    async fn ask<F: Future<Output = Result<Appended, BusError>>>(
        &self,
        mut attempt: impl FnMut() -> F,
    ) -> Appended {
        let mut backoff = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(20))
            .with_max_delay(Duration::from_secs(2))
            .without_max_times()
            .with_jitter()
            .build();
        let mut told = false;
        loop {
            let error = match attempt().await {
                Ok(reply) => {
                    if told {
                        tracing::info!(lane = %self.lane.lane, "redis takes appends again");
                    }
                    return reply;
                }
                Err(error) => error,
            };
            self.metrics.append_errors.add(1, &[]);
            let delay = if error.is_transient() {
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!(%error, lane = %self.lane.lane, "append failed; trying until it succeeds");
                }
                backoff.next().unwrap_or(REJECTED_RETRY)
            } else {
                told = true;
                tracing::error!(%error, lane = %self.lane.lane, "redis refuses the append; trying again every 5 s");
                REJECTED_RETRY
            };
            sleep(delay).await;
        }
    }
}
