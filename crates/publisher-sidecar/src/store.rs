//! The journals on disk: one for each answer to being full, so that what is dropped really makes room.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use bytesize::ByteSize;
use runcast_protocol::{Channel, Sequence};
use tokio::sync::watch;

use crate::config::JournalConfig;
use crate::identity::Identity;
use crate::journal::{Journal, JournalError, Limits, Position, Recorded, Recovered, RecoveredLane, Stats};

/// A folder in the journal's, the channels whose messages are in it, and its sixteenths of the bytes.
const PARTS: [(&str, &[Channel], u64); 3] = [
    ("kept", &[Channel::Output, Channel::Status, Channel::Control, Channel::Acks], 12),
    ("logs", &[Channel::Logs], 3),
    ("metrics", &[Channel::Metrics], 1),
];

/// A journal that several lanes share.
#[derive(Debug)]
pub(crate) struct Store {
    journal: Mutex<Journal>,
    /// Most bytes of it.
    pub(crate) limit: u64,
    /// Wakes those who wait for room.
    moved: watch::Sender<()>,
}

/// All of a sidecar's journals. Cheap to clone; empty if there is no folder.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stores(Vec<(&'static [Channel], Arc<Store>)>);

impl Stores {
    /// Opens what `config` says; tells what an earlier sidecar left.
    pub(crate) fn open(
        config: &JournalConfig,
        identity: &Identity,
    ) -> Result<(Self, BTreeMap<Channel, RecoveredLane>), JournalError> {
        let (mut stores, mut lanes) = (Vec::new(), BTreeMap::new());
        let Some(folder) = &config.folder else { return Ok((Self(stores), lanes)) };
        for (name, channels, share) in PARTS {
            let bytes = config.max_bytes.as_u64() / 16 * share;
            let limits = Limits { bytes, segment_bytes: config.segment_bytes.as_u64() };
            let folder = folder.join(name);
            let (journal, recovered) = Journal::open(&folder, limits, &identity.run, &identity.variation)?;
            tell(&folder, &recovered);
            lanes.extend(recovered.lanes);
            let store = Store { journal: Mutex::new(journal), limit: bytes, moved: watch::Sender::new(()) };
            stores.push((channels, Arc::new(store)));
        }
        Ok((Self(stores), lanes))
    }

    /// The journal in which a channel's messages are noted.
    pub(crate) fn of(&self, channel: Channel) -> Option<Arc<Store>> {
        let mut stores = self.0.iter();
        stores.find(|(channels, _)| channels.contains(&channel)).map(|(_, store)| store.clone())
    }

    /// How the journals stand, taken together; none if there are none.
    pub(crate) fn stats(&self) -> Option<Stats> {
        self.0.iter().map(|(_, store)| store.lock().stats()).reduce(|all, one| Stats {
            bytes: all.bytes + one.bytes,
            segments: all.segments + one.segments,
            messages: all.messages + one.messages,
            oldest: all.oldest.max(one.oldest),
        })
    }
}

impl Store {
    /// Notes a message; it survives the sidecar then.
    pub(crate) fn append(&self, channel: Channel, line: &[u8]) -> Result<Recorded, JournalError> {
        self.lock().append(channel, line)
    }

    /// Notes where a lane stood before its first message.
    pub(crate) fn origin(&self, channel: Channel, last: Sequence) -> Result<(), JournalError> {
        self.lock().origin(channel, last)
    }

    /// Notes that a lane's first `count` messages are not needed any more.
    pub(crate) fn safe(&self, channel: Channel, count: u64) {
        if let Err(error) = self.lock().safe(channel, count) {
            tracing::warn!(%error, %channel, "cannot note what is safe; after a restart it is sent again");
        }
        self.moved.send_replace(());
    }

    /// Reads a message.
    pub(crate) fn read(&self, position: Position) -> Result<Bytes, JournalError> {
        self.lock().read(position)
    }

    /// Changes whenever there may be room again.
    pub(crate) fn moved(&self) -> watch::Receiver<()> {
        self.moved.subscribe()
    }

    // A panic while holding the lock leaves the journal usable: it believes what is on disk.
    fn lock(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tell(folder: &Path, recovered: &Recovered) {
    let folder = folder.display();
    let left: usize = recovered.lanes.values().map(|lane| lane.messages.len()).sum();
    if left > 0 {
        tracing::info!(%folder, messages = left, "an earlier sidecar left messages in the journal; going on with them");
    }
    if let Some(torn) = recovered.torn {
        tracing::info!(%folder, bytes = torn.bytes, "the journal's end was being written when the sidecar was killed; cut off");
    }
    for damage in &recovered.damaged {
        tracing::error!(%folder, segment = damage.segment, offset = damage.offset, bytes = %ByteSize(damage.bytes), "a part of the journal cannot be read any more");
    }
    if recovered.skipped > 0 {
        tracing::warn!(%folder, entries = recovered.skipped, "the journal has entries of a newer version; skipped");
    }
}
