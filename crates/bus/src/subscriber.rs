//! Subscribing to many channels over one connection.
//!
//! Pub/sub is only the fast path. What arrives is handed on at once; whenever something may have
//! been missed (a reconnection, an overflow, a subscription found dead) every listener is told, and
//! reads what it misses from the streams.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use bytes::Bytes;
use fred::clients::SubscriberClient;
use fred::interfaces::{ClientLike, EventInterface, PubsubInterface};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::client::supervise;
use crate::registry::{Listener, ListenerId, Registry};
use crate::{Bus, BusError};

/// Requests that may wait for the connection.
const REQUESTS: usize = 4096;
/// Most channels in one SUBSCRIBE.
const CHANNELS_A_COMMAND: usize = 256;
/// How often a quiet connection is probed, and how long it may stay silent before it is replaced:
/// after a failover or behind a broken middlebox a subscription can be dead on a healthy connection.
const PROBE_EVERY: Duration = Duration::from_secs(1);
const SILENCE: Duration = Duration::from_secs(4);

/// One Redis subscription per channel, however many listen to it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Subscriber {
    requests: mpsc::Sender<Request>,
    leaving: mpsc::UnboundedSender<(ListenerId, Vec<String>)>,
    next_id: Arc<AtomicU64>,
    _tasks: Arc<Vec<AbortOnDropHandle<()>>>,
}

#[derive(Debug)]
struct Request {
    channels: Vec<String>,
    listener: Listener,
    done: oneshot::Sender<()>,
}

/// What a listener gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// A payload from one of the channels.
    Payload(Bytes),
    /// Something may have been missed: look at the streams.
    Missed,
}

/// A listener's deliveries. Dropping it unsubscribes from what nobody else listens to.
#[derive(Debug)]
pub struct Inbox {
    listener: Listener,
    deliveries: mpsc::Receiver<Bytes>,
    missed: mpsc::Receiver<()>,
    channels: HashSet<String>,
    subscriber: Subscriber,
}

impl Subscriber {
    /// Begins to connect, and returns at once.
    ///
    /// # Errors
    /// [`BusError::Config`] if the address cannot be used.
    pub fn connect(bus: &Bus) -> Result<Self, BusError> {
        let client = bus.config().subscriber_builder()?.build_subscriber_client()?;
        let shared = Arc::new(Shared::default());
        // Receivers first: what comes before they exist is lost.
        let router = route(client.message_rx(), shared.clone());
        let (requests, request_rx) = mpsc::channel(REQUESTS);
        // Unbounded because a drop cannot wait; each listener sends at most one.
        let (leaving, leaving_rx) = mpsc::unbounded_channel();
        let keeper =
            Keeper { client: client.clone(), bus: bus.clone(), shared, probe: probe_channel(&client) };
        let reconnects = client.reconnect_rx();
        let connection = client.connect();
        let tasks = vec![
            AbortOnDropHandle::new(tokio::spawn(router)),
            AbortOnDropHandle::new(tokio::spawn(keeper.run(request_rx, leaving_rx, reconnects))),
            AbortOnDropHandle::new(tokio::spawn(supervise(client, connection))),
        ];
        Ok(Self { requests, leaving, next_id: Arc::default(), _tasks: Arc::new(tasks) })
    }

    /// An inbox for at most `capacity` payloads at a time; what finds it full is dropped and told
    /// as [`Incoming::Missed`].
    pub fn inbox(&self, capacity: usize) -> Inbox {
        let (deliveries, delivery_rx) = mpsc::channel(capacity);
        let (missed, missed_rx) = mpsc::channel(1);
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let listener = Listener { id, deliveries, missed };
        let subscriber = self.clone();
        Inbox { listener, deliveries: delivery_rx, missed: missed_rx, channels: HashSet::new(), subscriber }
    }
}

impl Inbox {
    /// Subscribes to `channels`, those that it is not subscribed to yet. Returns once Redis has
    /// confirmed. If Redis cannot be reached it returns all the same; the subscription is made when
    /// Redis is back, and [`Incoming::Missed`] tells of it.
    pub async fn subscribe(&mut self, channels: impl IntoIterator<Item = String>) {
        let new: Vec<_> =
            channels.into_iter().filter(|channel| self.channels.insert(channel.clone())).collect();
        if new.is_empty() {
            return;
        }
        let (done, confirmed) = oneshot::channel();
        let request = Request { channels: new, listener: self.listener.clone(), done };
        if self.subscriber.requests.send(request).await.is_ok() {
            let _ = confirmed.await;
        }
    }

    /// The next delivery; payloads in the order in which Redis published them.
    pub async fn next(&mut self) -> Incoming {
        // Neither channel can close: the inbox holds a sender of each.
        tokio::select! {
            biased;
            Some(()) = self.missed.recv() => Incoming::Missed,
            Some(payload) = self.deliveries.recv() => Incoming::Payload(payload),
        }
    }

    /// The next delivery, if there is one already.
    pub fn try_next(&mut self) -> Option<Incoming> {
        if self.missed.try_recv().is_ok() {
            return Some(Incoming::Missed);
        }
        self.deliveries.try_recv().ok().map(Incoming::Payload)
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        let _ = self.subscriber.leaving.send((self.listener.id, self.channels.drain().collect()));
    }
}

/// What the router and the keeper share.
#[derive(Debug)]
struct Shared {
    registry: RwLock<Registry>,
    started: Instant,
    /// When anything was last heard, in milliseconds after `started`.
    heard: AtomicU64,
}

impl Default for Shared {
    fn default() -> Self {
        Self { registry: RwLock::default(), started: Instant::now(), heard: AtomicU64::new(0) }
    }
}

impl Shared {
    // A panic while holding the lock leaves the registry usable: every operation is one step.
    fn read(&self) -> RwLockReadGuard<'_, Registry> {
        self.registry.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Registry> {
        self.registry.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn hear(&self) {
        let millis = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.heard.store(millis, Ordering::Relaxed);
    }

    fn silence(&self) -> Duration {
        self.started.elapsed().saturating_sub(Duration::from_millis(self.heard.load(Ordering::Relaxed)))
    }
}

/// Hands what arrives to whom it concerns. Never waits, so that the client library's own queue,
/// which drops silently, stays empty.
async fn route(mut messages: tokio::sync::broadcast::Receiver<fred::types::Message>, shared: Arc<Shared>) {
    loop {
        match messages.recv().await {
            Ok(message) => {
                shared.hear();
                let Some(payload) = message.value.into_bytes() else { continue };
                let full = shared.read().deliver(&message.channel, &payload);
                if full > 0 {
                    tracing::debug!(channel = %message.channel, listeners = full, "inbox full; reading from the stream");
                }
            }
            Err(RecvError::Lagged(dropped)) => {
                tracing::warn!(dropped, "deliveries dropped before routing; reading from the streams");
                shared.read().tell_missed();
            }
            Err(RecvError::Closed) => return,
        }
    }
}

/// Keeps Redis's subscriptions as the registry wants them.
struct Keeper {
    client: SubscriberClient,
    bus: Bus,
    shared: Arc<Shared>,
    probe: String,
}

impl Keeper {
    async fn run(
        self,
        mut requests: mpsc::Receiver<Request>,
        mut leaving: mpsc::UnboundedReceiver<(ListenerId, Vec<String>)>,
        mut reconnects: tokio::sync::broadcast::Receiver<fred::types::config::Server>,
    ) {
        let mut tick = tokio::time::interval(PROBE_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut batch = Vec::new();
        loop {
            tokio::select! {
                count = requests.recv_many(&mut batch, CHANNELS_A_COMMAND) => match count {
                    0 => return,
                    _ => self.admit(batch.drain(..)).await,
                },
                Some((id, channels)) = leaving.recv() => self.release(id, channels).await,
                reconnected = reconnects.recv() => match reconnected {
                    Ok(_) | Err(RecvError::Lagged(_)) => self.resubscribe().await,
                    Err(RecvError::Closed) => return,
                },
                _ = tick.tick() => self.check().await,
            }
        }
    }

    async fn admit(&self, requests: impl Iterator<Item = Request>) {
        let (mut new, mut confirmations) = (Vec::new(), Vec::new());
        {
            let mut registry = self.shared.write();
            for Request { channels, listener, done } in requests {
                new.extend(channels.into_iter().filter(|channel| registry.add(channel, listener.clone())));
                confirmations.push(done);
            }
        }
        self.subscribe(new).await;
        for done in confirmations {
            let _ = done.send(());
        }
    }

    async fn release(&self, id: ListenerId, channels: Vec<String>) {
        let orphaned = self.shared.write().remove(id, channels);
        for chunk in orphaned.chunks(CHANNELS_A_COMMAND) {
            let result = if self.bus.is_sharded() {
                self.client.sunsubscribe(chunk.to_vec()).await
            } else {
                self.client.unsubscribe(chunk.to_vec()).await
            };
            if let Err(error) = result {
                // Nobody listens any more; a reconnection will not bring it back.
                tracing::debug!(%error, "could not unsubscribe");
            }
        }
    }

    async fn subscribe(&self, channels: Vec<String>) {
        let size = if self.bus.is_sharded() { 1 } else { CHANNELS_A_COMMAND };
        for chunk in channels.chunks(size) {
            let result = if self.bus.is_sharded() {
                self.client.ssubscribe(chunk.to_vec()).await
            } else {
                self.client.subscribe(chunk.to_vec()).await
            };
            if let Err(error) = result {
                // Made again on reconnection; a connection that is up but does not take it is replaced.
                tracing::warn!(%error, channels = chunk.len(), "could not subscribe; trying again");
                if self.client.is_connected() {
                    let _ = self.client.force_reconnection().await;
                }
                return;
            }
        }
    }

    async fn resubscribe(&self) {
        let mut channels = self.shared.read().channels();
        channels.push(self.probe.clone());
        tracing::debug!(channels = channels.len(), "subscribing anew");
        self.shared.hear();
        self.subscribe(channels).await;
        self.shared.read().tell_missed();
    }

    /// Notices a subscription that is dead although its connection looks healthy.
    async fn check(&self) {
        let silence = self.shared.silence();
        if !self.client.is_connected() || silence < PROBE_EVERY {
            return;
        }
        if silence >= SILENCE {
            tracing::warn!(?silence, "subscription is dead behind a healthy connection; reconnecting");
            self.shared.hear();
            let _ = self.client.force_reconnection().await;
            return;
        }
        if let Err(error) = self.bus.client().publish::<(), _, _>(self.probe.as_str(), "").await {
            // Without Redis there is nothing to hear: that is no sign of a dead subscription.
            tracing::debug!(%error, "could not probe the subscription");
            self.shared.hear();
        }
    }
}

fn probe_channel(client: &SubscriberClient) -> String {
    format!("runcast:probe:{}:{}", std::process::id(), client.id())
}
