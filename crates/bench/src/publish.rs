//! S7: what publishing costs Redis and the publisher, beside `redis-benchmark`'s pipelined XADD.

mod append;
mod redis_benchmark;
mod report;
mod server;
mod sidecar;
mod text;

use std::path::PathBuf;

use anyhow::ensure;
use runcast_testkit::Redis;
use tokio::runtime::Runtime;

pub use report::{PublishReport, Row};
use server::Server;

/// Bytes of text in a message.
const PAYLOAD: usize = 256;

/// What the streams keep, in entries: the sidecar's default, and the same for all.
const MAX_ENTRIES: u64 = 100_000;

/// What is measured.
#[derive(Debug, Clone, clap::Args)]
pub struct PublishOptions {
    /// A tenth of the messages, for a try.
    #[arg(long)]
    pub quick: bool,
    /// The sidecar to measure.
    #[arg(long, default_value = "target/release/runcast-sidecar")]
    pub sidecar: PathBuf,
    /// Messages for each way of publishing as fast as it goes.
    #[arg(long, default_value_t = 500_000)]
    pub messages: u64,
    /// Rates to feed the sidecar at, in messages a second.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 5_000, 20_000])]
    pub rates: Vec<u64>,
    /// Seconds for each rate.
    #[arg(long, default_value_t = 10)]
    pub seconds: u64,
}

/// Measures one way after the other, each with a Redis of its own.
///
/// # Errors
/// If the sidecar is missing, or a server does not come up or go on. Without `redis-benchmark`, its rows
/// are left out.
pub fn run(options: &PublishOptions) -> anyhow::Result<PublishReport> {
    ensure!(
        options.sidecar.exists(),
        "{} is missing: cargo build --release -p runcast-publisher-sidecar",
        options.sidecar.display()
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let divisor = if options.quick { 10 } else { 1 };
    let messages = (options.messages / divisor).max(1);
    let mut report = PublishReport { payload: PAYLOAD, rows: Vec::new(), missing: None };
    if redis_benchmark::is_here() {
        for pipeline in [1, 16, 64] {
            report.rows.push(redis_benchmark::measure(&start(&runtime), messages, pipeline)?);
        }
    } else {
        report.missing = Some("redis-benchmark is not here: scripts/tools.sh bench".to_owned());
    }
    for batch in [1, 16, 64] {
        report.rows.push(append::measure(&start(&runtime), messages, batch)?);
    }
    for rate in &options.rates {
        let pace = sidecar::Pace::Rate(*rate);
        let messages = (rate * options.seconds / divisor).max(1);
        report.rows.push(sidecar::measure(&start(&runtime), &options.sidecar, pace, messages, false)?);
    }
    for journal in [false, true] {
        let pace = sidecar::Pace::AsFastAsItTakes;
        report.rows.push(sidecar::measure(&start(&runtime), &options.sidecar, pace, messages, journal)?);
    }
    Ok(report)
}

fn start(runtime: &Runtime) -> Server<'_> {
    Server { redis: runtime.block_on(Redis::start()), runtime }
}
