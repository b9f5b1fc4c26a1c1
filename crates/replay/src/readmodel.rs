//! What is known of each run as a whole, folded from what it said.
//!
//! A [`Summary`] is a pure fold of a run's lanes. A projector keeps one for each run up to date, in Redis
//! beside the run and, as clients see it, in the [`Catalog`]; beside that it writes snapshots: the text of
//! output lanes, joined, for who joins late.

mod answers;
mod catalog;
mod dead;
mod errors;
mod lane_fold;
mod list;
mod projector;
mod rebuild;
mod report;
mod snapshots;
mod source;
mod summary;
mod work;

pub use answers::{list, rebuild, show};
pub use catalog::Catalog;
pub use dead::{dead_letters, requeue};
pub use list::ListRequest;
pub use report::{ErrorReport, Micros, RunSummary, VariationSummary, Volume};
pub use summary::Summary;

use crate::config::RunsConfig;
use crate::context::Context;

/// Keeps the read models up to date until shutdown.
pub async fn run(context: Context, config: RunsConfig) {
    projector::Projector::new(context, config.interval).run().await;
}
