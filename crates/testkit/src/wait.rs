//! Waiting for a condition.

use std::time::{Duration, Instant};

/// Asks `condition` until it gives something, and returns that.
///
/// # Panics
/// If it gave nothing within `deadline`; the message says `what` was waited for.
pub async fn eventually<T>(
    what: &str,
    deadline: Duration,
    mut condition: impl AsyncFnMut() -> Option<T>,
) -> T {
    let begun = Instant::now();
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(begun.elapsed() < deadline, "not within {deadline:?}: {what}");
        // The one pause of all tests: between two looks at a condition.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
