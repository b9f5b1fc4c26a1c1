//! The connection to Redis that commands go through.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, Weak};
use std::time::Duration;

use fred::clients::{Client, Pool};
use fred::interfaces::{ClientLike, ClusterInterface, EventInterface, LuaInterface};
use fred::types::config::ServerConfig;
use fred::types::scan::ScanType;
use fred::types::scripts::Script;
use fred::types::{ClusterHash, CustomCommand, Value};
use futures_util::StreamExt;
use runcast_protocol::{RunId, keys};
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::append::APPEND_SCRIPT;
use crate::config::redacted;
use crate::metrics::ConnectionMetrics;
use crate::past::AskedPast;
use crate::sentinel;
use crate::{BusError, RedisConfig};

/// A client that lost Redis for so long is made anew where there are sentinels: what it knows of
/// them may be out of date, see [`Shared::make_anew`].
const LOST: Duration = Duration::from_secs(4);

/// Commands to Redis over a few connections that mend themselves. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Bus {
    shared: Arc<Shared>,
    /// How long an answer from the past is waited for, if any is asked for.
    pub(crate) past_wait: Option<Duration>,
    // Owned so that nothing outlives the last clone.
    _tasks: Arc<Vec<AbortOnDropHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    config: RedisConfig,
    clients: RwLock<Clients>,
    append: Script,
    read: Script,
    decide: Script,
    snapshot: Script,
    summary: Script,
    release: Script,
    topology: ServerConfig,
    asked_past: AskedPast,
}

/// The connections that commands are spread over.
#[derive(Debug)]
struct Clients {
    pool: Pool,
    _tasks: Vec<AbortOnDropHandle<()>>,
}

impl Bus {
    /// Begins to connect, and returns at once: commands wait for the connection up to their timeout,
    /// so a service can start before its Redis.
    ///
    /// # Errors
    /// [`BusError::Config`] if the address cannot be used.
    pub fn connect(config: &RedisConfig) -> Result<Self, BusError> {
        let clients = Clients::connect(config)?;
        tracing::debug!(url = redacted(&config.url), connections = config.connections, "connecting to redis");
        let shared = Arc::new(Shared {
            config: config.clone(),
            topology: clients.pool.next().client_config().server,
            clients: RwLock::new(clients),
            append: Script::from_lua(APPEND_SCRIPT),
            read: Script::from_lua(include_str!("lua/read.lua")),
            decide: Script::from_lua(include_str!("lua/decide.lua")),
            asked_past: AskedPast::default(),
            snapshot: Script::from_lua(include_str!("lua/snapshot.lua")),
            summary: Script::from_lua(include_str!("lua/summary.lua")),
            release: Script::from_lua(include_str!("lua/release.lua")),
        });
        let mut tasks = Vec::new();
        if shared.has_sentinels() {
            let watched = Arc::downgrade(&shared);
            let reconnect = move || {
                if let Some(shared) = watched.upgrade() {
                    shared.reconnect();
                }
            };
            tasks = sentinel::watch(&config.builder()?, reconnect)?;
            tasks.push(AbortOnDropHandle::new(tokio::spawn(keep_finding(Arc::downgrade(&shared)))));
        }
        Ok(Self { shared, past_wait: None, _tasks: Arc::new(tasks) })
    }

    /// Asks Redis for a sign of life.
    ///
    /// # Errors
    /// [`BusError`] saying why there was none.
    pub async fn ping(&self) -> Result<(), BusError> {
        Ok(self.client().await.ping::<()>(None).await?)
    }

    /// All the runs that Redis knows, in no particular order. Walks the keyspace: for people, not
    /// for loops.
    ///
    /// # Errors
    /// [`BusError`] if Redis cannot be asked.
    pub async fn runs(&self) -> Result<Vec<RunId>, BusError> {
        let mut runs = Vec::new();
        let pattern = keys::lanes_pattern();
        let client = self.client().await;
        let mut keys: futures_util::stream::BoxStream<'_, _> = if self.is_sharded() {
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

    pub(crate) fn config(&self) -> &RedisConfig {
        &self.shared.config
    }

    pub(crate) fn asked_past(&self) -> &AskedPast {
        &self.shared.asked_past
    }

    /// One of the connections. Before a cluster's first connection commands would fail at once,
    /// instead of waiting for it as elsewhere: so this waits, as long as a command would.
    pub(crate) async fn client(&self) -> Client {
        let client = self.shared.read().pool.next().clone();
        if self.is_sharded() && !client.is_connected() && client.cached_cluster_state().is_none() {
            let connected = client.wait_for_connect();
            // If it is in vain, the command says why.
            let _ = tokio::time::timeout(self.config().timeout_ms, connected).await;
        }
        client
    }

    /// Whether pub/sub is sharded, as in Cluster mode.
    pub(crate) fn is_sharded(&self) -> bool {
        matches!(self.shared.topology, ServerConfig::Clustered { .. })
    }

    /// Whether the primary is found by asking sentinels.
    pub(crate) fn has_sentinels(&self) -> bool {
        self.shared.has_sentinels()
    }

    pub(crate) async fn append_script(&self, keys: Vec<String>, args: Vec<Value>) -> Result<Value, BusError> {
        self.eval(&self.shared.append, keys, args).await
    }

    pub(crate) async fn read_script(&self, keys: Vec<String>, args: Vec<Value>) -> Result<Value, BusError> {
        self.eval_read_only(&self.shared.read, keys, args).await
    }

    pub(crate) async fn decide_script(&self, keys: Vec<String>, args: Vec<Value>) -> Result<Value, BusError> {
        self.eval(&self.shared.decide, keys, args).await
    }

    pub(crate) async fn snapshot_script(
        &self,
        keys: Vec<String>,
        args: Vec<Value>,
    ) -> Result<Value, BusError> {
        self.eval(&self.shared.snapshot, keys, args).await
    }

    pub(crate) async fn summary_script(
        &self,
        keys: Vec<String>,
        args: Vec<Value>,
    ) -> Result<Value, BusError> {
        self.eval(&self.shared.summary, keys, args).await
    }

    pub(crate) async fn release_script(
        &self,
        keys: Vec<String>,
        args: Vec<Value>,
    ) -> Result<Value, BusError> {
        self.eval(&self.shared.release, keys, args).await
    }

    /// The same for a script that only reads, and may therefore be called by who may only read: `EVAL` asks for
    /// the permission to write all of `keys`, whatever the script does.
    async fn eval_read_only(
        &self,
        script: &Script,
        keys: Vec<String>,
        args: Vec<Value>,
    ) -> Result<Value, BusError> {
        let slot = ClusterHash::from(keys.first().map(String::as_str).unwrap_or_default());
        let call = |name: &'static str, script: Value| {
            let count = i64::try_from(keys.len()).unwrap_or(i64::MAX);
            let keys = keys.iter().map(|key| Value::from(key.as_str()));
            let all: Vec<Value> =
                [script, count.into()].into_iter().chain(keys).chain(args.clone()).collect();
            (CustomCommand::new_static(name, slot.clone(), false), all)
        };
        let client = self.client().await;
        let (command, arguments) = call("EVALSHA_RO", script.sha1().to_string().into());
        match client.custom(command, arguments).await {
            Err(error) if error.details().starts_with("NOSCRIPT") => {
                let source = script.lua().map(ToString::to_string).unwrap_or_default();
                let (command, arguments) = call("EVAL_RO", source.into());
                Ok(client.custom(command, arguments).await?)
            }
            result => Ok(result?),
        }
    }

    /// By its hash; a server that does not know it yet is sent the whole script. Loading it on all
    /// servers of a cluster instead would fail as long as any of them is down.
    async fn eval(&self, script: &Script, keys: Vec<String>, args: Vec<Value>) -> Result<Value, BusError> {
        let client = self.client().await;
        match client.evalsha(script.sha1().clone(), keys.clone(), args.clone()).await {
            Err(error) if error.details().starts_with("NOSCRIPT") => {
                let source = script.lua().cloned().unwrap_or_default();
                Ok(client.eval(source, keys, args).await?)
            }
            result => Ok(result?),
        }
    }
}

impl Shared {
    // A panic while holding the lock leaves a pool that works.
    fn read(&self) -> RwLockReadGuard<'_, Clients> {
        self.clients.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_sentinels(&self) -> bool {
        matches!(self.topology, ServerConfig::Sentinel { .. })
    }

    /// Whether every connection leads to a server that answers. One that says it is connected may
    /// not: its server may be gone without a word.
    async fn answers(&self) -> bool {
        let clients = self.read().pool.clients().to_vec();
        for client in clients {
            if !client.is_connected() || client.ping::<()>(None).await.is_err() {
                return false;
            }
        }
        true
    }

    /// Has every connection ask again where the primary is.
    fn reconnect(&self) {
        for client in self.read().pool.clients() {
            if client.is_connected() {
                let client = client.clone();
                // Only tells the connection's task; one that is not connected asks anyway.
                tokio::spawn(async move { client.force_reconnection().await });
            }
        }
    }

    /// Begins anew with the sentinels of the configuration. The client library replaces them by what
    /// a sentinel says of its fellows, which leaves out the one that was asked: once the others are
    /// gone, it would never ask that one again.
    fn make_anew(&self) {
        tracing::warn!("redis could not be found for a while; asking all the configured sentinels again");
        match Clients::connect(&self.config) {
            Ok(clients) => *self.clients.write().unwrap_or_else(PoisonError::into_inner) = clients,
            Err(error) => tracing::error!(%error, "could not make the connections anew"),
        }
    }
}

impl Clients {
    fn connect(config: &RedisConfig) -> Result<Self, BusError> {
        let pool = config.builder()?.build_pool(config.connections.max(1))?;
        let mut tasks = Vec::new();
        for client in pool.clients() {
            let connection = client.connect();
            tasks.push(AbortOnDropHandle::new(tokio::spawn(supervise(client.clone(), connection))));
            tasks.push(AbortOnDropHandle::new(tokio::spawn(log_errors(client.clone()))));
        }
        Ok(Self { pool, _tasks: tasks })
    }
}

/// Makes the connections anew when they led nowhere for too long.
async fn keep_finding(shared: Weak<Shared>) {
    let mut lost_since = None;
    loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let Some(shared) = shared.upgrade() else { return };
        if shared.answers().await {
            lost_since = None;
        } else if lost_since.get_or_insert_with(Instant::now).elapsed() >= LOST {
            shared.make_anew();
            lost_since = None;
        }
    }
}

/// The client library's connection task should never end; if it does, it is started again. Ends with
/// this task: nobody else would stop it.
pub(crate) async fn supervise<C: ClientLike>(
    client: C,
    connection: JoinHandle<Result<(), fred::error::Error>>,
) {
    let mut connection = AbortOnDropHandle::new(connection);
    loop {
        match (&mut connection).await {
            Ok(Ok(())) => tracing::warn!("connection task to redis ended; starting it again"),
            Ok(Err(error)) => tracing::warn!(%error, "connection task to redis failed; starting it again"),
            Err(error) if error.is_cancelled() => return,
            Err(error) => tracing::error!(%error, "connection task to redis panicked; starting it again"),
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        connection = AbortOnDropHandle::new(client.connect());
    }
}

/// Says that Redis is gone or back, once each, not at every attempt, and counts both.
async fn log_errors(client: Client) {
    let (mut errors, mut connects) = (client.error_rx(), client.reconnect_rx());
    let metrics = ConnectionMetrics::of("commands");
    let mut down = false;
    loop {
        tokio::select! {
            error = errors.recv() => match error {
                Ok((error, server)) => {
                    metrics.failed();
                    if !std::mem::replace(&mut down, true) {
                        let server = server.map(|server| server.to_string()).unwrap_or_default();
                        tracing::warn!(%error, server, "redis connection lost; reconnecting");
                    }
                }
                Err(RecvError::Closed) => return,
                Err(RecvError::Lagged(_)) => {}
            },
            server = connects.recv() => match server {
                Ok(server) => {
                    metrics.connected();
                    if std::mem::replace(&mut down, false) {
                        tracing::info!(%server, "redis is back");
                    }
                }
                Err(RecvError::Closed) => return,
                Err(RecvError::Lagged(_)) => {}
            },
        }
    }
}
