//! Every server of the topology by itself, and its users: Redis does not replicate them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

use fred::clients::Client;
use fred::interfaces::{ClientLike, EventInterface};
use fred::types::config::{Server, ServerConfig};
use fred::types::{ClusterHash, CustomCommand, Value};
use tokio::sync::broadcast::error::RecvError;
use tokio_util::task::AbortOnDropHandle;

use crate::client::supervise;
use crate::{AclUser, Bus, BusError, ServerInfo, sentinel};

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeAddress(Server);

impl NodeAddress {
    /// Name or IP address.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.0.host
    }

    /// TCP port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.0.port
    }
}

impl fmt::Display for NodeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.0.host, self.0.port)
    }
}

/// Knows which servers there are: primary and replicas, wherever they are now.
#[derive(Debug)]
pub struct Nodes {
    bus: Bus,
    sentinels: Vec<(String, Connected)>,
}

/// A connection that ends with this value.
#[derive(Debug)]
struct Connected {
    client: Client,
    _task: AbortOnDropHandle<()>,
}

impl Connected {
    fn new(builder: &fred::prelude::Builder) -> Result<Self, BusError> {
        let client = builder.build()?;
        let connection = client.connect();
        let task = AbortOnDropHandle::new(tokio::spawn(supervise(client.clone(), connection)));
        Ok(Self { client, _task: task })
    }

    async fn ask(&self, command: &'static str, arguments: Vec<Value>) -> Result<Value, BusError> {
        let command = CustomCommand::new_static(command, ClusterHash::Random, false);
        Ok(self.client.custom(command, arguments).await?)
    }
}

impl Nodes {
    /// Those of `bus`; connects to the sentinels, if there are any.
    ///
    /// # Errors
    /// [`BusError::Config`] if the address cannot be used.
    pub fn connect(bus: &Bus) -> Result<Self, BusError> {
        let each = sentinel::each(&bus.config().builder()?).into_iter();
        let sentinels = each.map(|(_, name, builder)| Ok((name, Connected::new(&builder)?)));
        Ok(Self { bus: bus.clone(), sentinels: sentinels.collect::<Result<_, BusError>>()? })
    }

    /// All servers there are, dead ones too where they are known.
    ///
    /// # Errors
    /// [`BusError`] if nobody can be asked.
    pub async fn all(&self) -> Result<BTreeSet<NodeAddress>, BusError> {
        if self.bus.is_sharded() {
            // Not CLUSTER SLOTS: that leaves out replicas that have yet to come into step.
            let command = CustomCommand::new_static("CLUSTER", ClusterHash::Random, false);
            let shards: Value = self.bus.client().await.custom(command, vec!["SHARDS"]).await?;
            // A server that does not know its own address leaves it out; the client library does know it.
            let masters = self.bus.topology().await?.unique_primary_nodes().into_iter().map(NodeAddress);
            return Ok(in_shards(shards, self.bus.config().is_tls()).into_iter().chain(masters).collect());
        }
        if !self.bus.has_sentinels() {
            let config = self.bus.config().builder()?;
            let server = config.get_config().map(|config| config.server.hosts());
            return Ok(server.into_iter().flatten().map(NodeAddress).collect());
        }
        let mut failed = BusError::Unreachable("no sentinel is known".into());
        for (name, sentinel) in &self.sentinels {
            match watched_by(name, sentinel).await {
                Ok(nodes) => return Ok(nodes),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }
}

/// The primary that a sentinel knows, and its replicas.
async fn watched_by(name: &str, sentinel: &Connected) -> Result<BTreeSet<NodeAddress>, BusError> {
    let ask = |what: &str| sentinel.ask("SENTINEL", vec![what.into(), name.into()]);
    let primary: Vec<String> = ask("GET-MASTER-ADDR-BY-NAME").await?.convert()?;
    let replicas: Vec<HashMap<String, String>> = match ask("REPLICAS").await? {
        Value::Null => Vec::new(),
        replicas => replicas.convert()?,
    };
    let replicas = replicas.iter().filter_map(|replica| address(replica.get("ip")?, replica.get("port")?));
    let primary = match primary.as_slice() {
        [host, port] => address(host, port),
        _ => None,
    };
    Ok(primary.into_iter().chain(replicas).collect())
}

fn address(host: &str, port: &str) -> Option<NodeAddress> {
    Some(NodeAddress(Server::new(host, port.parse().ok()?)))
}

/// `CLUSTER SHARDS`: of each shard its nodes, with endpoint, port and tls-port.
fn in_shards(shards: Value, tls: bool) -> BTreeSet<NodeAddress> {
    let fields = |value: Value| value.convert::<HashMap<String, Value>>().unwrap_or_default();
    let nodes = shards.into_array().into_iter().filter_map(|shard| fields(shard).remove("nodes"));
    let servers = nodes.flat_map(Value::into_array).filter_map(|node| {
        let node = fields(node);
        let host = node.get("endpoint")?.as_string().filter(|host| !matches!(host.as_str(), "" | "?"))?;
        address(&host, &node.get(if tls { "tls-port" } else { "port" })?.as_string()?)
    });
    servers.collect()
}

/// The same words for the same value: the fields of maps and what is in sets come in any order, and a set is an array
/// here.
fn words(value: Value) -> String {
    let all = |mut words: Vec<String>| {
        words.sort_unstable();
        format!("[{}]", words.join(" "))
    };
    match value {
        Value::Array(values) => all(values.into_iter().map(words).collect()),
        Value::Map(_) => {
            let fields: BTreeMap<String, Value> = value.convert().unwrap_or_default();
            all(fields.into_iter().map(|(name, value)| name + "=" + &words(value)).collect())
        }
        value => value.as_string().unwrap_or_default(),
    }
}

/// A user as a server tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenUser {
    /// SHA-256 sums of its passwords, in hex.
    pub sums: Vec<String>,
    /// All the rest, in the server's own words.
    pub rules: String,
}

/// One server, and a connection of its own.
#[derive(Debug)]
pub struct Node {
    address: NodeAddress,
    connected: Connected,
    /// Whether it does not know `WAITAOF`.
    before_7_2: AtomicBool,
}

impl Node {
    /// Begins to connect.
    ///
    /// # Errors
    /// [`BusError::Config`] if the configuration cannot be used.
    pub fn connect(bus: &Bus, address: &NodeAddress) -> Result<Self, BusError> {
        let mut builder = bus.config().builder()?;
        builder.with_config(|config| config.server = ServerConfig::Centralized { server: address.0.clone() });
        let connected = Connected::new(&builder)?;
        Ok(Self { address: address.clone(), connected, before_7_2: AtomicBool::new(false) })
    }

    /// Where it is.
    pub fn address(&self) -> &NodeAddress {
        &self.address
    }

    /// Waits for the next time that the connection was made; the server may be another one then, or have forgotten
    /// its users.
    pub async fn reconnected(&self) {
        // A receiver that lags has missed one, too.
        if let Err(RecvError::Closed) = self.connected.client.reconnect_rx().recv().await {
            std::future::pending::<()>().await;
        }
        self.before_7_2.store(false, Ordering::Relaxed);
    }

    /// How it is.
    ///
    /// # Errors
    /// [`BusError`] if it cannot be asked, or says something else.
    pub async fn info(&self) -> Result<ServerInfo, BusError> {
        let sections = ["memory", "stats", "replication"].map(Value::from);
        let text: String = self.connected.ask("INFO", sections.into()).await?.convert()?;
        ServerInfo::parse(&text).ok_or_else(|| BusError::Unreachable("this INFO is none".into()))
    }

    /// The names of its users. Cheap, unlike `ACL LIST`: Redis 7.0 takes 0.2 ms and more of each user for that, and
    /// serves nobody meanwhile.
    ///
    /// # Errors
    /// [`BusError`] if it cannot be asked.
    pub async fn user_names(&self) -> Result<Vec<String>, BusError> {
        Ok(self.connected.ask("ACL", vec!["USERS".into()]).await?.convert()?)
    }

    /// A user as it is; none if there is none.
    ///
    /// # Errors
    /// [`BusError`] if it cannot be asked.
    pub async fn user(&self, name: &str) -> Result<Option<SeenUser>, BusError> {
        let user = self.connected.ask("ACL", vec!["GETUSER".into(), name.into()]).await?;
        if user.is_null() {
            return Ok(None);
        }
        let mut fields: BTreeMap<String, Value> = user.convert()?;
        let sums = fields.remove("passwords").map(Value::convert).transpose()?.unwrap_or_default();
        let rules: Vec<String> = fields.into_iter().map(|(name, value)| name + "=" + &words(value)).collect();
        Ok(Some(SeenUser { sums, rules: rules.join(" ") }))
    }

    /// Has a user with passwords of these SHA-256 sums (in hex), whatever it was before. Connections stay.
    ///
    /// # Errors
    /// [`BusError`] if it cannot be asked, or knows one of the rules not.
    pub async fn set_user(&self, user: AclUser, sha256: &[String]) -> Result<(), BusError> {
        if self.before_7_2.load(Ordering::Relaxed) {
            return self.set(&user.before_7_2(), sha256).await;
        }
        match self.set(&user, sha256).await {
            Err(BusError::Rejected(why)) if why.contains("+waitaof") => {
                self.before_7_2.store(true, Ordering::Relaxed);
                self.set(&user.before_7_2(), sha256).await
            }
            result => result,
        }
    }

    async fn set(&self, user: &AclUser, sha256: &[String]) -> Result<(), BusError> {
        let mut arguments: Vec<Value> = vec!["SETUSER".into(), user.name.as_str().into()];
        arguments.extend(user.rules.iter().map(|rule| Value::from(rule.as_str())));
        arguments.extend(sha256.iter().map(|sum| Value::from(format!("#{sum}"))));
        self.connected.ask("ACL", arguments).await.map(drop)
    }

    /// Deletes a user; the server cuts its connections.
    ///
    /// # Errors
    /// [`BusError`] if it cannot be asked.
    pub async fn delete_user(&self, name: &str) -> Result<(), BusError> {
        self.connected.ask("ACL", vec!["DELUSER".into(), name.into()]).await.map(drop)
    }

    /// Cuts a user's connections: they keep going with a password that is good no longer.
    ///
    /// # Errors
    /// [`BusError`] if it cannot be asked.
    pub async fn cut(&self, name: &str) -> Result<(), BusError> {
        self.connected.ask("CLIENT", vec!["KILL".into(), "USER".into(), name.into()]).await.map(drop)
    }
}
