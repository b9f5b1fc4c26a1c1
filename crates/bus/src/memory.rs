//! How much of Redis' memory a run has.

use fred::interfaces::ClientLike;
use fred::types::{ClusterHash, CustomCommand, Value};
use runcast_protocol::{RunId, keys};

use crate::{Bus, BusError};

impl Bus {
    /// About how many bytes a run's keys take in Redis (`MEMORY USAGE`, which weighs samples of a stream).
    ///
    /// # Errors
    /// [`BusError`] if Redis cannot be asked.
    pub async fn memory(&self, run: &RunId) -> Result<u64, BusError> {
        let keys = self.keys_of(run).await?;
        // All in one slot.
        let slot = ClusterHash::from(keys::lanes(run).as_str());
        let pipeline = self.client().await.pipeline();
        for key in keys {
            let command = CustomCommand::new_static("MEMORY", slot.clone(), false);
            let _: () = pipeline.custom(command, vec![Value::from("USAGE"), key.into()]).await?;
        }
        let sizes: Vec<Option<u64>> = pipeline.all().await?;
        Ok(sizes.into_iter().flatten().sum())
    }
}
