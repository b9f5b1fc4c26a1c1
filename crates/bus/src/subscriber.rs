//! Subscribing to many channels over few connections.
//!
//! Pub/sub is only the fast path. What arrives is handed on at once; whenever something may have
//! been missed (a reconnection, an overflow, a subscription found dead) every listener is told, and
//! reads what it misses from the streams.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::AbortOnDropHandle;

use crate::keeper::{Keeper, Request, Subscribe};
use crate::registry::Listener;
use crate::{Bus, BusError};

/// Requests that may wait for the connection.
const REQUESTS: usize = 4096;

/// One Redis subscription per channel, however many listen to it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Subscriber {
    requests: mpsc::Sender<Subscribe>,
    orders: mpsc::UnboundedSender<Request>,
    next_id: Arc<AtomicU64>,
    _keeper: Arc<AbortOnDropHandle<()>>,
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
        let (requests, request_rx) = mpsc::channel(REQUESTS);
        // Unbounded because a drop cannot wait; each listener sends one when it goes.
        let (orders, order_rx) = mpsc::unbounded_channel();
        let keeper = Keeper::new(bus)?;
        let task = AbortOnDropHandle::new(tokio::spawn(keeper.run(request_rx, order_rx)));
        Ok(Self { requests, orders, next_id: Arc::default(), _keeper: Arc::new(task) })
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
        let request = Subscribe { channels: new, listener: self.listener.clone(), done };
        if self.subscriber.requests.send(request).await.is_ok() {
            let _ = confirmed.await;
        }
    }

    /// Has the subscriptions made anew: for who finds messages in the streams that pub/sub should
    /// have brought.
    pub fn renew(&self) {
        let channels = self.channels.iter().cloned().collect();
        // A keeper that is gone has nothing to renew.
        let _ = self.subscriber.orders.send(Request::Renew { channels });
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
        let channels = self.channels.drain().collect();
        let _ = self.subscriber.orders.send(Request::Leave { id: self.listener.id, channels });
    }
}
