//! Stopping: asked for once, heard everywhere, and bounded in time.

use std::{future::Future, io, process, time::Duration};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;

/// The wish to stop. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    token: CancellationToken,
}

impl Shutdown {
    /// One that only [`trigger`](Self::trigger) sets off.
    #[must_use]
    pub fn new() -> Shutdown {
        Shutdown::default()
    }

    /// One that SIGTERM or SIGINT sets off. The second of them exits the process at once with status
    /// 128 + signal (143, 130): whoever asks twice does not want to wait for the drain.
    ///
    /// The task that listens lives as long as the process. Call this once, in `main`.
    ///
    /// # Errors
    /// The handlers cannot be installed.
    pub fn on_signals() -> io::Result<Shutdown> {
        // Installed here and not in the task, so that a signal right after this call is not fatal.
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let shutdown = Shutdown::new();
        let on_first = shutdown.clone();
        tokio::spawn(async move {
            let mut next = async || {
                tokio::select! {
                    _ = terminate.recv() => SIGTERM,
                    _ = interrupt.recv() => SIGINT,
                }
            };
            let first = next().await;
            tracing::info!(signal = name(first), "shutting down");
            on_first.trigger();
            let second = next().await;
            tracing::warn!(signal = name(second), "second signal, exiting without draining");
            process::exit(128 + second);
        });
        Ok(shutdown)
    }

    /// Asks everyone who holds a clone to stop.
    pub fn trigger(&self) {
        self.token.cancel();
    }

    /// Waits until stopping is asked for.
    pub async fn triggered(&self) {
        self.token.cancelled().await;
    }

    /// Whether stopping has been asked for.
    #[must_use]
    pub fn is_triggered(&self) -> bool {
        self.token.is_cancelled()
    }

    /// The token inside, for child tokens and for libraries that take one.
    #[must_use]
    pub fn token(&self) -> &CancellationToken {
        &self.token
    }
}

/// Runs the future under a deadline. Past it, drops the future, logs an error and returns `false`.
pub async fn within<F: Future<Output = ()>>(deadline: Duration, what: &str, f: F) -> bool {
    let in_time = tokio::time::timeout(deadline, f).await.is_ok();
    if !in_time {
        tracing::error!(what, ?deadline, "deadline passed");
    }
    in_time
}

fn name(signal: i32) -> &'static str {
    if signal == SIGINT { "SIGINT" } else { "SIGTERM" }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test]
    async fn every_clone_hears_a_trigger() {
        let shutdown = Shutdown::new();
        let clone = shutdown.clone();
        assert!(!clone.is_triggered());
        shutdown.trigger();
        clone.triggered().await;
        assert!(clone.is_triggered() && clone.token().is_cancelled());
    }

    #[tokio::test]
    async fn a_deadline_that_passes_is_told() {
        assert!(within(Duration::from_secs(1), "nothing", ready(())).await);
        assert!(!within(Duration::from_millis(10), "the end of time", pending()).await);
    }
}
