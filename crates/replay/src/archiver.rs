//! Moves what runs say to the archive before Redis forgets it.

use crate::config::ArchiveConfig;
use crate::context::Context;

/// Archives until shutdown.
pub async fn run(context: Context, _config: ArchiveConfig) {
    context.shutdown.triggered().await;
}
