//! Readiness: whether Redis answers.

use std::time::Duration;

use runcast_bus::Bus;
use runcast_runtime::Health;
use tokio_util::task::AbortOnDropHandle;

/// How often Redis is asked.
const EVERY: Duration = Duration::from_secs(5);

/// Keeps the condition `redis` until the handle is dropped.
pub(crate) fn watch(bus: Bus, health: Health) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        loop {
            match bus.ping().await {
                Ok(()) => health.set("redis", true, "answers"),
                Err(error) => health.set("redis", false, &error.to_string()),
            }
            tokio::time::sleep(EVERY).await;
        }
    }))
}
