//! The connection to Redis that commands go through.

use std::sync::Arc;

use fred::clients::{Client, Pool};
use fred::interfaces::{ClientLike, EventInterface, LuaInterface};
use fred::types::Value;
use fred::types::config::ServerConfig;
use fred::types::scan::ScanType;
use fred::types::scripts::Script;
use futures_util::StreamExt;
use runcast_protocol::{RunId, keys};
use tokio::task::JoinHandle;
use tokio_util::task::AbortOnDropHandle;

use crate::config::redacted;
use crate::sentinel;
use crate::{BusError, RedisConfig};

/// Commands to Redis over a few connections that mend themselves. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Bus {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: RedisConfig,
    pool: Pool,
    append: Script,
    read: Script,
    sharded: bool,
    // Owned so that nothing outlives the last clone.
    _tasks: Vec<AbortOnDropHandle<()>>,
}

impl Bus {
    /// Begins to connect, and returns at once: commands wait for the connection up to their timeout,
    /// so a service can start before its Redis.
    ///
    /// # Errors
    /// [`BusError::Config`] if the address cannot be used.
    pub fn connect(config: &RedisConfig) -> Result<Self, BusError> {
        let pool = config.builder()?.build_pool(config.connections.max(1))?;
        let mut tasks = Vec::new();
        for client in pool.clients() {
            let connection = client.connect();
            tasks.push(AbortOnDropHandle::new(tokio::spawn(supervise(client.clone(), connection))));
            tasks.push(AbortOnDropHandle::new(tokio::spawn(log_errors(client.clone()))));
        }
        let clients = pool.clone();
        let reconnect = move || {
            for client in clients.clients().iter().filter(|client| client.is_connected()) {
                let client = client.clone();
                // Only asks the connection's task; a client that is not connected asks the sentinels anyway.
                tokio::spawn(async move { client.force_reconnection().await });
            }
        };
        tasks.extend(sentinel::watch(&config.builder()?, reconnect)?);
        let sharded = matches!(client_config(&pool).server, ServerConfig::Clustered { .. });
        tracing::debug!(url = redacted(&config.url), connections = config.connections, "connecting to redis");
        let append = Script::from_lua(include_str!("lua/append.lua"));
        let read = Script::from_lua(include_str!("lua/read.lua"));
        let shared = Shared { config: config.clone(), pool, append, read, sharded, _tasks: tasks };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Asks Redis for a sign of life.
    ///
    /// # Errors
    /// [`BusError`] saying why there was none.
    pub async fn ping(&self) -> Result<(), BusError> {
        Ok(self.client().ping::<()>(None).await?)
    }

    /// All the runs that Redis knows, in no particular order. Walks the keyspace: for people, not
    /// for loops.
    ///
    /// # Errors
    /// [`BusError`] if Redis cannot be asked.
    pub async fn runs(&self) -> Result<Vec<RunId>, BusError> {
        let mut runs = Vec::new();
        let pattern = keys::lanes_pattern();
        let client = self.client();
        let mut keys: futures_util::stream::BoxStream<'_, _> = if self.shared.sharded {
            client.scan_cluster_buffered(pattern, Some(1000), Some(ScanType::Hash)).boxed()
        } else {
            client.scan_buffered(pattern, Some(1000), Some(ScanType::Hash)).boxed()
        };
        while let Some(key) = keys.next().await {
            runs.extend(key?.as_str().and_then(keys::run_of_lanes));
        }
        runs.sort_unstable();
        runs.dedup();
        Ok(runs)
    }

    /// What `INFO` says of the server: its version, e.g. `7.0.15`.
    ///
    /// # Errors
    /// [`BusError`] if Redis cannot be asked.
    pub async fn server_version(&self) -> Result<String, BusError> {
        let info: String = self.client().info(None).await?;
        let version = info.lines().find_map(|line| line.strip_prefix("redis_version:"));
        version
            .map(|version| version.trim().to_owned())
            .ok_or_else(|| BusError::Reply("INFO without a version".into()))
    }

    pub(crate) fn config(&self) -> &RedisConfig {
        &self.shared.config
    }

    pub(crate) fn client(&self) -> &Client {
        self.shared.pool.next()
    }

    /// Whether pub/sub is sharded, as in Cluster mode.
    pub(crate) fn is_sharded(&self) -> bool {
        self.shared.sharded
    }

    pub(crate) async fn append_script(&self, keys: Vec<String>, args: Vec<Value>) -> Result<Value, BusError> {
        self.eval(&self.shared.append, keys, args).await
    }

    pub(crate) async fn read_script(&self, keys: Vec<String>, args: Vec<Value>) -> Result<Value, BusError> {
        self.eval(&self.shared.read, keys, args).await
    }

    /// By its hash; a server that does not know it yet is sent the whole script. Loading it on all
    /// servers of a cluster instead would fail as long as any of them is down.
    async fn eval(&self, script: &Script, keys: Vec<String>, args: Vec<Value>) -> Result<Value, BusError> {
        let client = self.client();
        match client.evalsha(script.sha1().clone(), keys.clone(), args.clone()).await {
            Err(error) if error.details().starts_with("NOSCRIPT") => {
                let source = script.lua().cloned().unwrap_or_default();
                Ok(client.eval(source, keys, args).await?)
            }
            result => Ok(result?),
        }
    }
}

fn client_config(pool: &Pool) -> fred::types::config::Config {
    pool.next().client_config()
}

/// The client library's connection task should never end; if it does, it is started again.
pub(crate) async fn supervise<C: ClientLike>(
    client: C,
    mut connection: JoinHandle<Result<(), fred::error::Error>>,
) {
    loop {
        match (&mut connection).await {
            Ok(Ok(())) => tracing::warn!("connection task to redis ended; starting it again"),
            Ok(Err(error)) => tracing::warn!(%error, "connection task to redis failed; starting it again"),
            Err(error) if error.is_cancelled() => return,
            Err(error) => tracing::error!(%error, "connection task to redis panicked; starting it again"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        connection = client.connect();
    }
}

/// Says that Redis is gone or back, once each, not at every attempt.
async fn log_errors(client: Client) {
    let (mut errors, mut reconnects) = (client.error_rx(), client.reconnect_rx());
    let mut down = false;
    loop {
        tokio::select! {
            error = errors.recv() => match error {
                Ok((error, server)) if !std::mem::replace(&mut down, true) => {
                    let server = server.map(|server| server.to_string()).unwrap_or_default();
                    tracing::warn!(%error, server, "redis connection lost; reconnecting");
                }
                Err(tokio::sync::broadcast::error::RecvError::Closed) => return,
                _ => {}
            },
            server = reconnects.recv() => match server {
                Ok(server) if std::mem::replace(&mut down, false) => tracing::info!(%server, "redis is back"),
                Err(tokio::sync::broadcast::error::RecvError::Closed) => return,
                _ => {}
            },
        }
    }
}
