//! Moves what runs say to the archive before Redis forgets it.
//!
//! Every replica looks at all runs. What two do at the same time is done once: see [`crate::archive`].

mod due;
mod look;
mod tidy;
mod watched;
mod work;

use std::collections::HashMap;
use std::time::Duration;

use runcast_protocol::RunId;
use tokio::time::{Instant, MissedTickBehavior, interval};

use self::watched::Watched;
use crate::config::ArchiveConfig;
use crate::context::Context;

/// How often what is left behind is looked for, at most and at least.
const TIDY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3600));

/// Archives until shutdown.
pub async fn run(context: Context, config: ArchiveConfig) {
    if !context.archive.is_configured() {
        tracing::warn!("archive.url is empty: runs are gone when Redis lets them go");
        return context.shutdown.triggered().await;
    }
    let shutdown = context.shutdown.clone();
    tokio::select! {
        // Dropped wherever it is: as after kill -9, another one goes on.
        () = shutdown.triggered() => {}
        () = Archiver::new(context, config).keep_looking() => {}
    }
}

/// Looks at runs, and archives those that are due.
#[derive(Debug)]
struct Archiver {
    context: Context,
    config: ArchiveConfig,
    /// What we are called where replicas take turns.
    name: String,
    runs: HashMap<RunId, Watched>,
}

impl Archiver {
    fn new(context: Context, config: ArchiveConfig) -> Self {
        let started = jiff::Timestamp::now().as_nanosecond();
        let name = format!("{}-{started}", std::process::id());
        Self { context, config, name, runs: HashMap::new() }
    }

    async fn keep_looking(mut self) {
        let every = self.config.interval.max(Duration::from_millis(10));
        let mut tick = interval(every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let tidy_every =
            self.config.retention.map_or(TIDY.1, |retention| retention / 10).clamp(TIDY.0, TIDY.1);
        let mut tidy_at = Instant::now();
        loop {
            tick.tick().await;
            self.look().await;
            if Instant::now() >= tidy_at {
                self.tidy().await;
                tidy_at = Instant::now() + tidy_every;
            }
        }
    }
}
