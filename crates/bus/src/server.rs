//! What a Redis server says of itself.

use std::collections::BTreeMap;

use fred::interfaces::ClientLike;

use crate::{Bus, BusError};

impl Bus {
    /// All the fields of `INFO`, e.g. `maxmemory_policy` → `noeviction`. In a cluster, those of one
    /// of its servers.
    ///
    /// # Errors
    /// [`BusError`] if Redis cannot be asked.
    pub async fn server_info(&self) -> Result<BTreeMap<String, String>, BusError> {
        let info: String = self.client().await.info(None).await?;
        let fields = info.lines().filter_map(|line| line.trim_end().split_once(':'));
        Ok(fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }
}
