//! Which messages are safe: appended, and known to survive the loss of the server that took them.

use std::collections::BTreeMap;
use std::time::Duration;

use fred::interfaces::ClientLike;
use fred::types::{ClusterHash, CustomCommand, Value};
use runcast_protocol::{Lane, RunId, Sequence, keys};

use crate::{Bus, BusError, lanes};

/// How a topology makes appended messages safe; see [`Bus::durability`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// A replica has them (`WAIT`).
    Replicated,
    /// They are in the append-only file, fsynced (`WAITAOF`, Redis 7.2 and later).
    Fsynced,
    /// Neither can be asked: safe is what is older than the fsync interval.
    Aged,
}

/// What a fence found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fenced {
    /// Where the lanes stood at the fence, by the same server that confirmed.
    pub lanes: BTreeMap<Lane, Sequence>,
    /// Whether the server confirmed that all up to there is safe. With [`Durability::Aged`] nobody
    /// can; the caller waits out the interval.
    pub confirmed: bool,
}

impl Bus {
    /// How appended messages can be known to be safe here, as the server itself says now.
    ///
    /// # Errors
    /// [`BusError`] if Redis cannot be asked.
    pub async fn durability(&self, run: &RunId) -> Result<Durability, BusError> {
        self.durability_at(ClusterHash::from(keys::lanes(run).as_str())).await
    }

    /// The same of the server that has a slot.
    pub(crate) async fn durability_at(&self, slot: ClusterHash) -> Result<Durability, BusError> {
        let command = CustomCommand::new_static("INFO", slot, false);
        let info: String = self.client().await.custom(command, Vec::<Value>::new()).await?;
        let field = |name: &str| {
            info.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
                .map(str::trim)
                .unwrap_or_default()
        };
        // Valkey reports the Redis version it is compatible with here, which has WAITAOF as well.
        let mut version = field("redis_version").split('.').map(|part| part.parse::<u32>().unwrap_or(0));
        let version = (version.next().unwrap_or(0), version.next().unwrap_or(0));
        let has_waitaof = version >= (7, 2) || !field("valkey_version").is_empty();
        Ok(match (field("connected_slaves"), field("aof_enabled")) {
            (replicas, _) if !matches!(replicas, "" | "0") => Durability::Replicated,
            (_, "1") if has_waitaof => Durability::Fsynced,
            _ => Durability::Aged,
        })
    }

    /// Asks where the run's lanes stand and, of the same server over the same connection, whether
    /// all up to there is safe. Asking the two apart would be unsound: after a failover in between,
    /// the new primary confirms what it never had.
    ///
    /// # Errors
    /// [`BusError`] if Redis cannot be asked; then nothing is known.
    pub async fn fence(
        &self,
        run: &RunId,
        durability: Durability,
        ttl: Duration,
        patience: Duration,
    ) -> Result<Fenced, BusError> {
        let key = keys::lanes(run);
        let slot = ClusterHash::from(key.as_str());
        let custom = |name: &'static str| CustomCommand::new_static(name, slot.clone(), false);
        let millis = i64::try_from(patience.as_millis()).unwrap_or(i64::MAX);

        let pipeline = self.client().await.pipeline();
        // A write, so that the wait covers everything appended before it, by whichever connection.
        let ttl = i64::try_from(ttl.as_secs().max(1)).unwrap_or(i64::MAX);
        let _: () = pipeline.custom(custom("EXPIRE"), vec![Value::from(key.as_str()), ttl.into()]).await?;
        let _: () = pipeline.custom(custom("HGETALL"), vec![Value::from(key.as_str())]).await?;
        match durability {
            Durability::Replicated => {
                pipeline.custom::<(), Value>(custom("WAIT"), vec![1.into(), millis.into()]).await?;
            }
            Durability::Fsynced => {
                pipeline
                    .custom::<(), Value>(custom("WAITAOF"), vec![1.into(), 0.into(), millis.into()])
                    .await?;
            }
            Durability::Aged => {}
        }
        let replies: Vec<Value> = pipeline.all().await?;
        let state: std::collections::HashMap<String, String> =
            replies.get(1).cloned().unwrap_or(Value::Null).convert()?;
        let known =
            state.iter().filter_map(|(lane, state)| Some((lane.parse().ok()?, lanes::parse(state)?.last)));
        let confirmations = match replies.get(2).cloned() {
            Some(Value::Array(counts)) => counts.first().and_then(Value::as_i64).unwrap_or(0),
            Some(count) => count.as_i64().unwrap_or(0),
            None => 0,
        };
        Ok(Fenced { lanes: known.collect(), confirmed: confirmations > 0 })
    }

    pub(crate) async fn topology(&self) -> Result<fred::types::cluster::ClusterRouting, BusError> {
        use fred::interfaces::ClusterInterface;
        self.client().await.sync_cluster().await?;
        self.client().await.cached_cluster_state().ok_or_else(|| BusError::Reply("no cluster state".into()))
    }

    pub(crate) async fn publish(&self, channel: &str) -> Result<(), BusError> {
        use fred::interfaces::PubsubInterface;
        Ok(self.client().await.publish::<(), _, _>(channel, "").await?)
    }
}
