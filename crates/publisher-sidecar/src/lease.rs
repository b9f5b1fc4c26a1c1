//! The lease: a sign of life in Redis that goes by itself.
//!
//! It is taken before the variation is first said to be running, renewed at each third of its time, and
//! let go when the terminal status is in Redis. When it had lapsed, somebody may have taken the variation
//! for dead and said so; then it is said that it goes on.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use runcast_bus::{Bus, BusError};
use runcast_protocol::State;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use crate::metrics::Metrics;
use crate::session::Herald;
use crate::standing;

/// How long the beginning waits for the lease to be taken. If Redis is away, the agent begins all the same.
const PATIENCE: Duration = Duration::from_millis(500);

/// How long after a failure it is tried again, unless the breaker wants more.
const TRY_AGAIN: Duration = Duration::from_millis(100);

/// How long after Redis refused for good: somebody may mend the credentials.
const REFUSED_RETRY: Duration = Duration::from_secs(5);

/// A lease that is being renewed. Cheap to clone; lapses by itself once all clones are gone.
#[derive(Debug, Clone)]
pub(crate) struct Lease {
    shared: Arc<Shared>,
    task: Arc<Mutex<Option<AbortOnDropHandle<()>>>>,
}

#[derive(Debug)]
struct Shared {
    bus: Bus,
    herald: Herald,
    holder: String,
    ttl: Duration,
    state: Mutex<LeaseState>,
    /// What the control-plane said of us before the lease was first taken, if that overrules what we said;
    /// the outer option is none before.
    first: watch::Sender<Option<Option<State>>>,
}

/// How a lease stands.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct LeaseState {
    /// When it was renewed last.
    pub(crate) renewed: Option<Instant>,
    /// How often it was found to have lapsed.
    pub(crate) lapses: u64,
    /// It is not renewed any more.
    pub(crate) released: bool,
    /// Nobody waits for the first time any more.
    begun: bool,
}

impl Lease {
    /// Begins to keep the lease. Does not wait for Redis.
    pub(crate) fn keep(bus: &Bus, herald: Herald, ttl: Duration) -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let holder = format!("{} pid {}", host.trim(), std::process::id());
        let (state, first) = (Mutex::default(), watch::Sender::new(None));
        let shared = Arc::new(Shared { bus: bus.clone(), herald, holder, ttl, state, first });
        let task = AbortOnDropHandle::new(tokio::spawn(shared.clone().keep()));
        let observed = shared.clone();
        Metrics::observe_lease(move || *observed.state());
        Self { shared, task: Arc::new(Mutex::new(Some(task))) }
    }

    /// Waits a moment until it was taken; returns why the variation is to be said to go on, if it was
    /// declared dead before.
    pub(crate) async fn taken(&self) -> Option<String> {
        let mut first = self.shared.first.subscribe();
        let taken = timeout(PATIENCE, first.wait_for(Option::is_some)).await;
        let overruled = taken.ok().and_then(|taken| taken.ok().and_then(|first| first.flatten()));
        self.shared.state().begun = true;
        overruled.map(because)
    }

    /// Renews it no more, and lets it go.
    pub(crate) async fn release(&self) {
        self.shared.state().released = true;
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            task.abort();
            // Or it might be renewed once more after it was let go.
            let _ = task.await;
        }
        let identity = self.shared.herald.identity();
        if let Err(error) = self.shared.bus.release_lease(&identity.run, &identity.variation).await {
            tracing::debug!(%error, "the lease was not let go; it lapses by itself");
        }
    }

    pub(crate) fn state(&self) -> LeaseState {
        *self.shared.state()
    }

    /// Who holds it, for people.
    pub(crate) fn holder(&self) -> &str {
        &self.shared.holder
    }

    pub(crate) fn ttl(&self) -> Duration {
        self.shared.ttl
    }
}

impl Shared {
    async fn keep(self: Arc<Self>) {
        let identity = self.herald.identity();
        loop {
            let lapsed = self
                .ask(|| self.bus.renew_lease(&identity.run, &identity.variation, &self.holder, self.ttl))
                .await;
            let renewed_at = Instant::now();
            let is_first = self.state().renewed.replace(renewed_at).is_none();
            if is_first || lapsed {
                self.see_whether_declared_dead(is_first).await;
            }
            tokio::time::sleep_until(renewed_at + self.ttl / 3).await;
        }
    }

    async fn see_whether_declared_dead(&self, is_first: bool) {
        if !is_first {
            tracing::warn!(ttl = ?self.ttl, "the lease had lapsed: redis could not be reached in time, or this process stood still");
            self.state().lapses += 1;
        }
        let overruled = self.ask(|| standing::overruled(&self.bus, self.herald.identity())).await;
        if is_first {
            self.first.send_replace(Some(overruled.as_ref().map(|status| status.state)));
            if !self.state().begun {
                return;
            }
        }
        if let Some(status) = overruled {
            tracing::warn!(declared = %status.state, reason = status.reason, "this variation was declared dead, and goes on");
            self.herald.announce(Some(because(status.state))).await;
        }
    }

    /// Asks Redis until it answers.
    async fn ask<T, F: Future<Output = Result<T, BusError>>>(&self, attempt: impl Fn() -> F) -> T {
        let gate = self.herald.publisher().gate();
        loop {
            let leave = gate.pass().await;
            match attempt().await {
                Ok(answer) => {
                    leave.succeeded();
                    return answer;
                }
                Err(error) if error.is_transient() => {
                    leave.failed();
                    tracing::debug!(%error, "cannot renew the lease; trying until it succeeds");
                    sleep(TRY_AGAIN).await;
                }
                Err(error) => {
                    leave.succeeded();
                    tracing::error!(%error, "redis refuses the lease; trying again every 5 s");
                    sleep(REFUSED_RETRY).await;
                }
            }
        }
    }

    // A panic while holding the lock leaves the state usable: every change is one step.
    fn state(&self) -> MutexGuard<'_, LeaseState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn because(declared: State) -> String {
    match declared {
        State::Lost => "its lease had lapsed; it goes on".to_owned(),
        _ => format!("it was declared {declared}, and goes on"),
    }
}
