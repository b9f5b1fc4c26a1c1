//! One subscriber connection: to the server, to Sentinel's primary, or to one master of a cluster.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fred::clients::SubscriberClient;
use fred::error::Error;
use fred::interfaces::{ClientLike, EventInterface, PubsubInterface};
use fred::prelude::Builder;
use fred::types::Message;
use fred::types::config::Server;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::client::supervise;
use crate::keeper::{Event, NodeKey, Wanted};
use crate::metrics::ConnectionMetrics;
use crate::{Bus, BusError};

/// What the channels of probes begin with.
pub(crate) const PROBE: &str = "runcast:probe:";

/// Most channels in one SUBSCRIBE.
const CHANNELS_A_COMMAND: usize = 256;
/// A connection quiet for so long is probed …
const QUIET: Duration = Duration::from_secs(1);
/// … and one that does not hear its probes for so long is replaced: after a failover, or behind a
/// broken middlebox, a subscription can be dead on a connection that looks healthy.
const SILENCE: Duration = Duration::from_secs(4);

/// One subscriber connection.
#[derive(Debug)]
pub(crate) struct Connection {
    client: SubscriberClient,
    heard: Arc<Heard>,
    probe: String,
    sharded: bool,
    _tasks: [AbortOnDropHandle<()>; 3],
}

impl Connection {
    /// Begins to connect. Tells `events` of each connection made, also the first.
    pub(crate) fn open(
        builder: &Builder,
        node: NodeKey,
        sharded: bool,
        wanted: Wanted,
        events: mpsc::Sender<Event>,
    ) -> Result<Self, BusError> {
        let client = builder.build_subscriber_client()?;
        let heard = Arc::new(Heard::new());
        // Receivers first: what comes before they exist is lost.
        let router = route(client.message_rx(), wanted, heard.clone());
        let connects = tell_connects(client.reconnect_rx(), client.error_rx(), node, events);
        let connection = client.connect();
        let tasks = [
            AbortOnDropHandle::new(tokio::spawn(router)),
            AbortOnDropHandle::new(tokio::spawn(connects)),
            AbortOnDropHandle::new(tokio::spawn(supervise(client.clone(), connection))),
        ];
        // Of the user, so that none can listen to, or fake, the probes of another.
        let user = client.client_config().username.unwrap_or_else(|| "default".into());
        let probe = format!("{PROBE}{user}:{}:{}", std::process::id(), client.id());
        Ok(Self { client, heard, probe, sharded, _tasks: tasks })
    }

    /// Subscribes; on success Redis has confirmed all of them.
    pub(crate) async fn subscribe(&self, channels: &[String]) -> Result<(), BusError> {
        if self.sharded {
            // Several channels in one SSUBSCRIBE desynchronise the client library's replies.
            for channel in channels {
                self.client.ssubscribe(channel.as_str()).await?;
            }
            return Ok(());
        }
        for chunk in channels.chunks(CHANNELS_A_COMMAND) {
            self.client.subscribe(chunk.to_vec()).await?;
        }
        Ok(())
    }

    /// Unsubscribes, as far as it goes: nobody listens any more, so a failure does no harm.
    pub(crate) async fn unsubscribe(&self, channels: &[String]) {
        let result = if self.sharded {
            let mut result = Ok(());
            for channel in channels {
                result = result.and(self.client.sunsubscribe(channel.as_str()).await);
            }
            result
        } else {
            self.client.unsubscribe(channels.to_vec()).await
        };
        if let Err(error) = result {
            tracing::debug!(%error, "could not unsubscribe");
        }
    }

    /// Called after each connection made: listens to its own probes.
    pub(crate) async fn listen_to_probes(&self) -> Result<(), BusError> {
        self.heard.now();
        Ok(self.client.subscribe(self.probe.as_str()).await?)
    }

    /// Makes the connection anew, unless it is down and being made already.
    pub(crate) async fn replace(&self) {
        if self.client.is_connected() {
            self.heard.now();
            let _ = self.client.force_reconnection().await;
        }
    }

    /// Whether it has had no connection for a while.
    pub(crate) fn is_lost(&self) -> bool {
        !self.client.is_connected() && self.heard.silence() >= SILENCE
    }

    /// Notices a subscription that is dead although its connection looks healthy.
    pub(crate) async fn check(&self, bus: &Bus) {
        let silence = self.heard.silence();
        if !self.client.is_connected() || silence < QUIET {
            return;
        }
        if silence >= SILENCE {
            tracing::warn!(?silence, "subscription is dead behind a healthy connection; reconnecting");
            return self.replace().await;
        }
        if let Err(error) = bus.publish(&self.probe).await {
            // Without Redis there is nothing to hear: that is no sign of a dead subscription.
            tracing::debug!(%error, "could not probe the subscription");
            self.heard.now();
        }
    }
}

/// When anything was last heard on a connection.
#[derive(Debug)]
struct Heard {
    started: Instant,
    /// In milliseconds after `started`.
    last: AtomicU64,
}

impl Heard {
    fn new() -> Self {
        Self { started: Instant::now(), last: AtomicU64::new(0) }
    }

    fn now(&self) {
        let millis = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(millis, Ordering::Relaxed);
    }

    fn silence(&self) -> Duration {
        self.started.elapsed().saturating_sub(Duration::from_millis(self.last.load(Ordering::Relaxed)))
    }
}

/// Hands what arrives to whom it concerns. Never waits, so that the client library's own queue,
/// which drops silently, stays empty.
async fn route(mut messages: broadcast::Receiver<Message>, wanted: Wanted, heard: Arc<Heard>) {
    loop {
        match messages.recv().await {
            Ok(message) => {
                heard.now();
                let Some(payload) = message.value.into_bytes() else { continue };
                let full = wanted.read().deliver(&message.channel, &payload);
                if full > 0 {
                    tracing::debug!(channel = %message.channel, listeners = full, "inbox full; reading from the stream");
                }
            }
            Err(RecvError::Lagged(dropped)) => {
                tracing::warn!(dropped, "deliveries dropped before routing; reading from the streams");
                wanted.read().tell_missed();
            }
            Err(RecvError::Closed) => return,
        }
    }
}

/// Tells of each connection made, and counts them and what goes wrong.
async fn tell_connects(
    mut connects: broadcast::Receiver<Server>,
    mut errors: broadcast::Receiver<(Error, Option<Server>)>,
    node: NodeKey,
    events: mpsc::Sender<Event>,
) {
    let metrics = ConnectionMetrics::of("subscriptions");
    loop {
        tokio::select! {
            error = errors.recv() => match error {
                Ok(_) => metrics.failed(),
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            },
            connect = connects.recv() => {
                if matches!(connect, Err(RecvError::Closed)) {
                    return;
                }
                metrics.connected();
                if events.send(Event::Connected(node.clone())).await.is_err() {
                    return;
                }
            }
        }
    }
}
