//! What is known of each run as a whole, folded from what it said.

mod catalog;
mod summary;

pub use catalog::Catalog;
pub use summary::Summary;

use crate::config::RunsConfig;
use crate::context::Context;

/// Keeps the read models up to date until shutdown.
pub async fn run(context: Context, _config: RunsConfig) {
    context.shutdown.triggered().await;
}
