//! Who listens to which channel.

use std::collections::HashMap;

use bytes::Bytes;
use tokio::sync::mpsc;

/// Names a listener in the registry.
pub(crate) type ListenerId = u64;

/// Where a listener's deliveries go.
#[derive(Debug, Clone)]
pub(crate) struct Listener {
    pub(crate) id: ListenerId,
    pub(crate) deliveries: mpsc::Sender<Bytes>,
    /// Holds one token: "something may have been missed".
    pub(crate) missed: mpsc::Sender<()>,
}

impl Listener {
    /// Hands over a payload without waiting. One that finds no room is dropped, and the listener
    /// told: what it misses it can read from the stream.
    fn deliver(&self, payload: &Bytes) -> bool {
        let delivered = self.deliveries.try_send(payload.clone()).is_ok();
        if !delivered {
            self.tell_missed();
        }
        delivered
    }

    pub(crate) fn tell_missed(&self) {
        // A full channel already says so.
        let _ = self.missed.try_send(());
    }
}

/// Channel → listeners. The set of channels is what Redis should have us subscribed to.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    channels: HashMap<String, Vec<Listener>>,
}

impl Registry {
    /// Adds a listener; true if it is the channel's first.
    pub(crate) fn add(&mut self, channel: &str, listener: Listener) -> bool {
        let listeners = self.channels.entry(channel.to_owned()).or_default();
        if listeners.iter().all(|known| known.id != listener.id) {
            listeners.push(listener);
        }
        listeners.len() == 1
    }

    /// Removes a listener from `channels` and returns those that nobody listens to any more.
    pub(crate) fn remove(&mut self, id: ListenerId, channels: Vec<String>) -> Vec<String> {
        let mut orphaned = Vec::new();
        for channel in channels {
            let Some(listeners) = self.channels.get_mut(&channel) else { continue };
            listeners.retain(|listener| listener.id != id);
            if listeners.is_empty() {
                self.channels.remove(&channel);
                orphaned.push(channel);
            }
        }
        orphaned
    }

    /// Hands a payload to all who listen; the number of listeners that had no room.
    pub(crate) fn deliver(&self, channel: &str, payload: &Bytes) -> usize {
        let listeners = self.channels.get(channel).map_or(&[][..], Vec::as_slice);
        listeners.iter().filter(|listener| !listener.deliver(payload)).count()
    }

    /// Tells every listener that something may have been missed.
    pub(crate) fn tell_missed(&self) {
        self.channels.values().flatten().for_each(Listener::tell_missed);
    }

    pub(crate) fn channels(&self) -> Vec<String> {
        self.channels.keys().cloned().collect()
    }
}
