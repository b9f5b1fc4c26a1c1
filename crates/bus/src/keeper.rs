//! Keeps Redis's subscriptions as the listeners want them, wherever the channels live.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use fred::prelude::Builder;
use fred::types::cluster::ClusterRouting;
use fred::types::config::{Server, ServerConfig};
use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;

use crate::connection::Connection;
use crate::registry::{Listener, ListenerId, Registry};
use crate::{Bus, BusError};

/// Requests taken in one go; their channels share commands.
const REQUESTS_AT_ONCE: usize = 256;
/// How often connections are probed, what failed is tried again, and a cluster's topology is asked for.
const TICK: Duration = Duration::from_millis(500);

/// Which server a connection leads to: a cluster's master, or none where there is only one.
pub(crate) type NodeKey = Option<Server>;

/// A wish to listen.
#[derive(Debug)]
pub(crate) struct Subscribe {
    pub(crate) channels: Vec<String>,
    pub(crate) listener: Listener,
    pub(crate) done: oneshot::Sender<()>,
}

/// What listeners ask for without waiting.
#[derive(Debug)]
pub(crate) enum Request {
    /// The listener is gone.
    Leave { id: ListenerId, channels: Vec<String> },
    /// The listener suspects that its subscriptions are dead.
    Renew { channels: Vec<String> },
}

/// What connections tell.
#[derive(Debug)]
pub(crate) enum Event {
    /// A connection was made, the first or a later one: it has no subscriptions.
    Connected(NodeKey),
}

/// The registry, shared with the connections' routers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted(Arc<RwLock<Registry>>);

impl Wanted {
    // A panic while holding the lock leaves the registry usable: every operation is one step.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Registry> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Registry> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps the subscriptions; one task.
pub(crate) struct Keeper {
    bus: Bus,
    builder: Builder,
    wanted: Wanted,
    connections: HashMap<NodeKey, Connection>,
    /// Channel → the connection whose server confirmed its subscription.
    placed: HashMap<String, NodeKey>,
    /// A cluster's slots; none elsewhere.
    routing: Option<ClusterRouting>,
    events: (mpsc::Sender<Event>, mpsc::Receiver<Event>),
    /// Whether some wanted channel is not placed.
    unsettled: bool,
}

impl Keeper {
    pub(crate) fn new(bus: &Bus) -> Result<Self, BusError> {
        let builder = bus.config().subscriber_builder()?;
        let routing = bus.is_sharded().then(ClusterRouting::new);
        let mut keeper = Self {
            bus: bus.clone(),
            builder,
            wanted: Wanted::default(),
            connections: HashMap::new(),
            placed: HashMap::new(),
            routing,
            events: mpsc::channel(64),
            unsettled: false,
        };
        if keeper.routing.is_none() {
            keeper.connect(None)?;
        }
        Ok(keeper)
    }

    pub(crate) async fn run(
        mut self,
        mut requests: mpsc::Receiver<Subscribe>,
        mut orders: mpsc::UnboundedReceiver<Request>,
    ) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut batch = Vec::new();
        loop {
            tokio::select! {
                count = requests.recv_many(&mut batch, REQUESTS_AT_ONCE) => match count {
                    0 => return,
                    _ => self.admit(std::mem::take(&mut batch)).await,
                },
                Some(order) = orders.recv() => match order {
                    Request::Leave { id, channels } => self.release(id, channels).await,
                    Request::Renew { channels } => self.renew(&channels).await,
                },
                Some(Event::Connected(node)) = self.events.1.recv() => self.connected(node).await,
                _ = tick.tick() => self.check().await,
            }
        }
    }

    async fn admit(&mut self, requests: Vec<Subscribe>) {
        let (mut new, mut confirmations) = (Vec::new(), Vec::new());
        {
            let mut registry = self.wanted.write();
            for Subscribe { channels, listener, done } in requests {
                new.extend(channels.into_iter().filter(|channel| registry.add(channel, listener.clone())));
                confirmations.push(done);
            }
        }
        self.place(new).await;
        for done in confirmations {
            // Who no longer waits has left.
            let _ = done.send(());
        }
    }

    async fn release(&mut self, id: ListenerId, channels: Vec<String>) {
        let orphaned = self.wanted.write().remove(id, channels);
        for (node, channels) in
            group(orphaned.into_iter().filter_map(|channel| Some((self.placed.remove(&channel)?, channel))))
        {
            if let Some(connection) = self.connections.get(&node) {
                connection.unsubscribe(&channels).await;
            }
        }
    }

    async fn renew(&mut self, channels: &[String]) {
        tracing::info!(channels = channels.len(), "subscriptions seem dead; making them anew");
        for channel in channels {
            self.placed.remove(channel);
        }
        self.settle().await;
    }

    async fn connected(&mut self, node: NodeKey) {
        self.placed.retain(|_, at| *at != node);
        if let Some(connection) = self.connections.get(&node)
            && let Err(error) = connection.listen_to_probes().await
        {
            tracing::debug!(%error, "could not listen to probes");
            connection.replace().await;
        }
        self.settle().await;
        // Between the old connection and the new one anything may have been published.
        self.wanted.read().tell_missed();
    }

    async fn check(&mut self) {
        if self.routing.is_some() {
            self.follow_topology().await;
        }
        if self.unsettled {
            self.settle().await;
            self.wanted.read().tell_missed();
        }
        let mut lost = Vec::new();
        for (node, connection) in &self.connections {
            connection.check(&self.bus).await;
            if self.bus.has_sentinels() && connection.is_lost() {
                lost.push(node.clone());
            }
        }
        for node in lost {
            // As for commands: the client library may have forgotten the one sentinel that is left, or not know
            // of another password.
            match self.bus.config().subscriber_builder() {
                Ok(builder) => self.builder = builder,
                Err(error) => tracing::warn!(%error, "could not read the configuration of redis anew"),
            }
            if let Err(error) = self.connect(node) {
                tracing::error!(%error, "could not make the subscriber connection anew");
            }
        }
    }

    /// Asks a cluster who owns which slots: subscriptions to a slot that moved were dropped by its
    /// old owner without a word that reaches us.
    async fn follow_topology(&mut self) {
        let routing = match self.bus.topology().await {
            Ok(routing) => routing,
            Err(error) => return tracing::debug!(%error, "could not ask for the cluster's slots"),
        };
        let masters: HashSet<NodeKey> = routing.unique_primary_nodes().into_iter().map(Some).collect();
        self.connections.retain(|node, _| masters.contains(node));
        for master in masters {
            if !self.connections.contains_key(&master)
                && let Err(error) = self.connect(master)
            {
                tracing::warn!(%error, "could not connect to a master");
            }
        }
        let before = self.placed.len();
        self.placed.retain(|channel, node| owner(&routing, channel) == *node);
        self.unsettled |= self.placed.len() < before;
        self.routing = Some(routing);
    }

    /// Places the wanted channels that are not.
    async fn settle(&mut self) {
        let channels = self.wanted.read().channels();
        let missing: Vec<_> =
            channels.into_iter().filter(|channel| !self.placed.contains_key(channel)).collect();
        self.unsettled = false;
        self.place(missing).await;
    }

    /// Subscribes to these channels; those that could not be are left to [`Self::settle`].
    async fn place(&mut self, channels: Vec<String>) {
        let homes = channels.into_iter().map(|channel| {
            let node = self.routing.as_ref().and_then(|routing| owner(routing, &channel));
            (node, channel)
        });
        for (node, channels) in group(homes) {
            let Some(connection) = self.connections.get(&node) else {
                self.unsettled = true;
                continue;
            };
            match connection.subscribe(&channels).await {
                Ok(()) => self.placed.extend(channels.into_iter().map(|channel| (channel, node.clone()))),
                Err(error) => {
                    tracing::debug!(%error, channels = channels.len(), "could not subscribe; trying again");
                    self.unsettled = true;
                }
            }
        }
    }

    fn connect(&mut self, node: NodeKey) -> Result<(), BusError> {
        let mut builder = self.builder.clone();
        if let Some(server) = &node {
            builder
                .with_config(|config| config.server = ServerConfig::Centralized { server: server.clone() });
        }
        let connection = Connection::open(
            &builder,
            node.clone(),
            node.is_some(),
            self.wanted.clone(),
            self.events.0.clone(),
        )?;
        self.connections.insert(node, connection);
        Ok(())
    }
}

fn owner(routing: &ClusterRouting, channel: &str) -> NodeKey {
    routing.get_server(ClusterRouting::hash_key(channel.as_bytes())).cloned()
}

fn group(homes: impl Iterator<Item = (NodeKey, String)>) -> HashMap<NodeKey, Vec<String>> {
    let mut groups: HashMap<NodeKey, Vec<String>> = HashMap::new();
    for (node, channel) in homes {
        groups.entry(node).or_default().push(channel);
    }
    groups
}
