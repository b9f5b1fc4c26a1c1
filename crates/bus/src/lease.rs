//! Leases: signs of life of the variations' sidecars, that go by themselves.

use std::time::Duration;

use fred::interfaces::KeysInterface;
use fred::types::Expiration;
use runcast_protocol::{RunId, VariationId, keys};

use crate::{Bus, BusError};

impl Bus {
    /// Renews a variation's lease: it lapses `ttl` from now. `holder` says for people who holds it.
    /// Returns whether it had lapsed, or was never taken.
    ///
    /// # Errors
    /// [`BusError`] if Redis cannot be asked.
    pub async fn renew_lease(
        &self,
        run: &RunId,
        variation: &VariationId,
        holder: &str,
        ttl: Duration,
    ) -> Result<bool, BusError> {
        let ttl = Expiration::PX(i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX));
        let key = keys::lease(run, variation);
        let before: Option<String> = self.client().await.set(key, holder, Some(ttl), None, true).await?;
        Ok(before.is_none())
    }

    /// Lets a lease go.
    ///
    /// # Errors
    /// [`BusError`] if Redis cannot be asked.
    pub async fn release_lease(&self, run: &RunId, variation: &VariationId) -> Result<(), BusError> {
        let _: u64 = self.client().await.del(keys::lease(run, variation)).await?;
        Ok(())
    }

    /// Who holds each of the variations' leases, in their order; none where it has lapsed.
    ///
    /// # Errors
    /// [`BusError`] if Redis cannot be asked.
    pub async fn leases(
        &self,
        run: &RunId,
        variations: &[VariationId],
    ) -> Result<Vec<Option<String>>, BusError> {
        if variations.is_empty() {
            return Ok(Vec::new());
        }
        let keys: Vec<String> = variations.iter().map(|variation| keys::lease(run, variation)).collect();
        Ok(self.client().await.mget(keys).await?)
    }
}
