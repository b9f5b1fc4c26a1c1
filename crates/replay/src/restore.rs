//! Lends what only the archive has to the other services, through Redis.

use runcast_bus::Subscriber;

use crate::context::Context;

/// Answers requests until shutdown.
pub async fn run(context: Context, _subscriber: Subscriber) {
    context.shutdown.triggered().await;
}
