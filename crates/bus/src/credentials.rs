//! What is known of the credentials of runs' Redis users, kept in Redis itself for all who look after them. What it
//! says is theirs; the passwords are not in it.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use fred::interfaces::{ClientLike, HashesInterface, LuaInterface};
use fred::types::{ClusterHash, CustomCommand, Value};
use runcast_protocol::{RunId, keys};

use crate::{Bus, BusError, Durability};

/// How long a replica may take to confirm.
const CONFIRM: Duration = Duration::from_millis(500);

impl Bus {
    /// What is known of all runs' credentials; none if that was never kept, or is lost.
    ///
    /// # Errors
    /// [`BusError`] if Redis cannot be asked.
    pub async fn credentials(&self) -> Result<Option<BTreeMap<RunId, String>>, BusError> {
        let mut known: HashMap<String, String> = self.client().await.hgetall(keys::CREDENTIALS).await?;
        if known.remove("@").is_none() {
            return Ok(None);
        }
        Ok(Some(known.into_iter().filter_map(|(run, known)| Some((RunId::new(&run).ok()?, known))).collect()))
    }

    /// What is known of a run's credential.
    ///
    /// # Errors
    /// [`BusError`] if Redis cannot be asked.
    pub async fn credential(&self, run: &RunId) -> Result<Option<String>, BusError> {
        Ok(self.client().await.hget(keys::CREDENTIALS, run.as_str()).await?)
    }

    /// Puts back what was known, if it is lost; whether it was.
    ///
    /// # Errors
    /// [`BusError`] if Redis cannot be asked; safe to repeat.
    pub async fn restore_credentials(&self, known: &BTreeMap<RunId, String>) -> Result<bool, BusError> {
        let arguments: Vec<&str> =
            known.iter().flat_map(|(run, known)| [run.as_str(), known.as_str()]).collect();
        let script = include_str!("lua/restore_credentials.lua");
        let restored: i64 = self.client().await.eval(script, keys::CREDENTIALS, arguments).await?;
        Ok(restored == 1)
    }

    /// Replaces what is known, if it is still `before`; whether it was. Where there are replicas, one has it then.
    ///
    /// # Errors
    /// [`BusError`] if Redis cannot be asked, or no replica confirmed; it may or may not be replaced.
    pub async fn replace_credential(
        &self,
        run: &RunId,
        before: Option<&str>,
        after: Option<&str>,
    ) -> Result<bool, BusError> {
        let slot = ClusterHash::from(keys::CREDENTIALS);
        let replicated = self.durability_at(slot.clone()).await? == Durability::Replicated;
        let custom = |name: &'static str| CustomCommand::new_static(name, slot.clone(), false);
        // Over one connection: WAIT speaks of what went before it there.
        let pipeline = self.client().await.pipeline();
        let script: Vec<Value> = vec![
            include_str!("lua/credential.lua").into(),
            1.into(),
            keys::CREDENTIALS.into(),
            run.as_str().into(),
            before.unwrap_or_default().into(),
            after.unwrap_or_default().into(),
        ];
        let _: () = pipeline.custom(custom("EVAL"), script).await?;
        if replicated {
            let patience = i64::try_from(CONFIRM.as_millis()).unwrap_or(i64::MAX);
            pipeline.custom::<(), Value>(custom("WAIT"), vec![1.into(), patience.into()]).await?;
        }
        let replies: Vec<i64> = pipeline.all().await?;
        match replies.as_slice() {
            [0, ..] => Ok(false),
            [_, 0] => Err(BusError::Refused("no replica confirmed the credential".into())),
            _ => Ok(true),
        }
    }
}
