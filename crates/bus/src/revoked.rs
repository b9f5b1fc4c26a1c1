//! Viewers' tokens that were revoked: a key for each, which lives as long as the token would have.

use std::time::Duration;

use fred::interfaces::{KeysInterface, PubsubInterface};
use fred::types::Expiration;
use runcast_protocol::keys;

use crate::{Bus, BusError};

impl Bus {
    /// Revokes a token by its `jti` for so long, and tells those who serve it.
    ///
    /// # Errors
    /// [`BusError`] if Redis cannot be asked; safe to repeat.
    pub async fn revoke_token(&self, token: &str, keep: Duration) -> Result<(), BusError> {
        let seconds = i64::try_from(keep.as_secs()).unwrap_or(i64::MAX).max(1);
        let client = self.client().await;
        let expires = Some(Expiration::EX(seconds));
        client.set::<(), _, _>(keys::revoked(token), "1", expires, None, false).await?;
        if self.is_sharded() {
            client.spublish::<(), _, _>(keys::REVOKED, token).await?;
        } else {
            client.publish::<(), _, _>(keys::REVOKED, token).await?;
        }
        Ok(())
    }

    /// Whether a token was revoked.
    ///
    /// # Errors
    /// [`BusError`] if Redis cannot be asked.
    pub async fn is_revoked(&self, token: &str) -> Result<bool, BusError> {
        Ok(self.client().await.exists(keys::revoked(token)).await?)
    }
}
