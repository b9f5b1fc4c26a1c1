//! Viewers' tickets: each a key that lives for seconds and is taken by who uses it, on whichever replica.

use std::time::Duration;

use bytes::Bytes;
use fred::interfaces::KeysInterface;
use fred::types::{Expiration, SetOptions};
use runcast_protocol::keys;

use crate::{Bus, BusError};

impl Bus {
    /// Keeps what a ticket stands for, by its digest.
    ///
    /// # Errors
    /// [`BusError`] if Redis cannot be asked.
    pub async fn keep_ticket(&self, digest: &str, claims: Bytes, life: Duration) -> Result<(), BusError> {
        let expires = Expiration::PX(i64::try_from(life.as_millis()).unwrap_or(i64::MAX).max(1));
        let client = self.client().await;
        client
            .set::<(), _, _>(keys::ticket(digest), claims, Some(expires), Some(SetOptions::NX), false)
            .await?;
        Ok(())
    }

    /// Takes what a ticket stands for, which nobody else gets then; none if it was taken, or is too old.
    ///
    /// # Errors
    /// [`BusError`] if Redis cannot be asked. The ticket may be gone nevertheless.
    pub async fn take_ticket(&self, digest: &str) -> Result<Option<Bytes>, BusError> {
        Ok(self.client().await.getdel(keys::ticket(digest)).await?)
    }
}
