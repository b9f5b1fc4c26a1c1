//! Turns: one of several replicas does something for a run, so that not all do. Only to save work: whoever
//! has a turn may be slow, dead or cut off, and what is done must be right if two do it.

use std::time::Duration;

use fred::interfaces::KeysInterface;
use fred::types::{Expiration, ExpireOptions, SetOptions};
use runcast_protocol::{RunId, keys};

use crate::{Bus, BusError};

impl Bus {
    /// Takes the turn to archive a run, for `ttl`, or keeps it if `holder` has it; whether that was granted.
    ///
    /// # Errors
    /// [`BusError`] if Redis cannot be asked.
    pub async fn take_archiving(&self, run: &RunId, holder: &str, ttl: Duration) -> Result<bool, BusError> {
        let millis = i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX);
        let key = keys::archiving(run);
        let client = self.client().await;
        let ttl = Some(Expiration::PX(millis));
        let taken: Option<String> = client.set(&key, holder, ttl, Some(SetOptions::NX), false).await?;
        if taken.is_some() {
            return Ok(true);
        }
        let now: Option<String> = client.get(&key).await?;
        if now.as_deref() != Some(holder) {
            return Ok(false);
        }
        Ok(client.pexpire::<u64, _>(&key, millis, None).await? == 1)
    }

    /// Gives the turn to archive a run back, if `holder` has it.
    ///
    /// # Errors
    /// [`BusError`] if Redis cannot be asked.
    pub async fn leave_archiving(&self, run: &RunId, holder: &str) -> Result<(), BusError> {
        let key = keys::archiving(run);
        let now: Option<String> = self.client().await.get(&key).await?;
        // In between it may lapse and be taken by another: who then works at the same time, harmlessly.
        if now.as_deref() == Some(holder) {
            let _: u64 = self.client().await.del(&key).await?;
        }
        Ok(())
    }

    /// Keeps what a run said for at least `ttl` from now, where less than half of that is left. What is kept
    /// for ever stays so. Returns how many keys were changed.
    ///
    /// # Errors
    /// [`BusError`] if Redis cannot be asked; some may have been changed.
    pub async fn protect(&self, run: &RunId, ttl: Duration) -> Result<u64, BusError> {
        let seconds = i64::try_from(ttl.as_secs().max(1)).unwrap_or(i64::MAX);
        let mut changed = 0;
        for key in self.keys_of(run).await? {
            let left: i64 = self.client().await.ttl(&key).await?;
            if (0..seconds / 2).contains(&left) && !keys::is_lease(&key) {
                let longer = Some(ExpireOptions::GT);
                changed += self.client().await.expire::<u64, _>(&key, seconds, longer).await?;
            }
        }
        Ok(changed)
    }
}
