//! Waiting for a lane to move: for the claim, for Redis, until all is safe.

use runcast_protocol::Sequence;

use super::{OpenLane, State};

impl OpenLane {
    /// The number of the message that was taken as the `count`th; waits for the claim.
    pub(crate) async fn number(&self, count: u64) -> Sequence {
        self.wait(|state| state.queue.number(count)).await
    }

    /// Where the lane stood in Redis when it was claimed; waits for that.
    pub(crate) async fn claimed_at(&self) -> Sequence {
        self.wait(|state| state.claimed_at).await
    }

    /// Waits until all that was taken so far is in Redis.
    pub(crate) async fn flushed(&self) {
        let target = self.lock().queue.taken();
        self.wait(|state| state.queue.has_appended(target).then_some(())).await;
    }

    /// Waits until all that was taken so far is safe.
    pub(crate) async fn secured(&self) {
        let target = self.lock().queue.taken();
        self.wait(|state| (state.queue.safe_count() >= target).then_some(())).await;
    }

    async fn wait<T>(&self, ready: impl Fn(&State) -> Option<T>) -> T {
        let mut moved = self.moved.subscribe();
        loop {
            if let Some(value) = ready(&self.lock()) {
                return value;
            }
            let _ = moved.changed().await;
        }
    }
}
