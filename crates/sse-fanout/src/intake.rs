//! The thread that takes in what Redis publishes.
//!
//! A message passes through three tasks: the connection's, the router's, its feed's. Where these wander
//! between the cores, most of what a message costs is waking the next one; on one thread they follow each
//! other for next to nothing (docs/performance.md). What it brings goes out from here to rows of few;
//! long rows are written by all cores.

use std::io;

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::{CancellationToken, DropGuard};

/// The thread that takes in what Redis publishes. It ends with this value, and its tasks with it.
#[derive(Debug)]
pub struct Intake {
    handle: Handle,
    _stop: DropGuard,
}

impl Intake {
    /// Starts it.
    ///
    /// # Errors
    /// If the system grants no thread.
    pub fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (handle, stop) = (runtime.handle().clone(), CancellationToken::new());
        let stopped = stop.clone();
        std::thread::Builder::new()
            .name("intake".into())
            .spawn(move || runtime.block_on(stopped.cancelled()))?;
        Ok(Self { handle, _stop: stop.drop_guard() })
    }

    /// Where its tasks are spawned.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }
}
