//! Viewers' tokens that were revoked: a key for each, which lives as long as the token would have.

use std::sync::Arc;
use std::time::Duration;

use fred::interfaces::{KeysInterface, PubsubInterface};
use fred::types::Expiration;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use runcast_protocol::keys;

use crate::{Bus, BusError};

/// Commands under way at a time where many tokens are asked for.
const AT_A_TIME: usize = 256;

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

    /// Those of the tokens that were revoked. Each by a command of its own: in a cluster their keys are anywhere.
    ///
    /// # Errors
    /// [`BusError`] if Redis cannot be asked.
    pub async fn revoked_among(&self, tokens: Vec<Arc<str>>) -> Result<Vec<Arc<str>>, BusError> {
        let asked = tokens.into_iter().map(|token| async move {
            let is_revoked = self.is_revoked(&token).await?;
            Ok::<_, BusError>(is_revoked.then_some(token))
        });
        let answers = stream::iter(asked).buffer_unordered(AT_A_TIME);
        answers.try_filter_map(|token| std::future::ready(Ok(token))).try_collect().await
    }
}
