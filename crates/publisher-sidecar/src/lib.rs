//! Takes what an agent says and appends it to its run's lanes in Redis.
//!
//! Bytes become messages ([`splitter`], [`lines`], [`utf8`]), messages are numbered and held in one
//! queue for each lane ([`lane_queue`]) and noted on disk ([`journal`]), and one task for each lane
//! appends them in batches. They are held until Redis has them safe.

mod agent;
pub mod aging;
mod api;
pub mod arguments;
pub mod breaker;
pub mod commands;
pub mod config;
mod dead_letters;
pub mod draft;
mod error;
mod exec;
mod gate;
mod held;
mod identity;
pub mod journal;
pub mod lane_queue;
mod lease;
pub mod lines;
mod listen;
mod metadata;
pub mod metrics;
mod open_lane;
mod phase;
mod pipe;
pub mod processes;
pub mod publisher;
pub mod quota;
pub mod record;
pub mod redact;
mod relay;
mod safety;
mod serve;
mod session;
mod source;
pub mod splitter;
mod standing;
pub mod steering;
mod store;
mod takeover;
mod trace;
mod typist;
pub mod utf8;
mod watch_redis;
mod writer;

use runcast_bus::Bus;
use runcast_runtime::{Health, Shutdown};

pub use crate::error::Error;
pub use crate::identity::Identity;
pub use crate::writer::Fenced;

use crate::arguments::Mode;
use crate::config::Config;
use crate::publisher::Publisher;

/// Runs a sidecar to its end; returns the exit status. Call it from the task given to `block_on`:
/// the agent dies with the thread that starts it.
///
/// # Errors
/// [`Error`] if it cannot start, or another sidecar takes over.
pub async fn run(config: Config, mode: Mode, health: Health, shutdown: Shutdown) -> Result<u8, Error> {
    let bus = Bus::connect(&config.redis)?;
    let _watch = watch_redis::watch(bus.clone(), health);
    let (publisher, mut writers) = Publisher::start(&bus, &config)?;
    tracing::debug!(run = %config.run.id, variation = %config.run.variation, "publishing");
    match mode {
        Mode::Exec { command, .. } => {
            Box::pin(exec::run(&command, &config, &bus, publisher, &mut writers, shutdown)).await
        }
        Mode::Pipe => Box::pin(pipe::run(&config, &bus, publisher, &mut writers, shutdown)).await,
        Mode::Serve => Box::pin(serve::run(&config, &bus, publisher, &mut writers, shutdown)).await,
    }
}
