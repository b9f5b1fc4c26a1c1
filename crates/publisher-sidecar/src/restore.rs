//! Going on where an earlier sidecar left off, as the journal tells.

use std::path::{Path, PathBuf};

use runcast_protocol::Channel;

use crate::config::{Config, bytes};
use crate::identity::Identity;
use crate::journal::{JournalError, Limits, Recovered};
use crate::lane_queue::LaneQueue;
use crate::publisher::CHANNELS;
use crate::store::{Held, Store};

/// A lane's channel, and its queue.
type LaneOf = (Channel, LaneQueue<Held>);

/// The lanes' queues as they were left; empty ones without a journal.
pub(crate) fn queues(config: &Config, identity: &Identity) -> Result<(Store, Vec<LaneOf>), JournalError> {
    let Some(folder) = &config.journal.folder else {
        let max_bytes = bytes(config.queue.max_bytes);
        return Ok((Store::default(), CHANNELS.map(|channel| (channel, LaneQueue::new(max_bytes))).into()));
    };
    let limits = Limits {
        bytes: config.journal.max_bytes.as_u64(),
        segment_bytes: config.journal.segment_bytes.as_u64(),
    };
    let (store, recovered) = Store::open(folder, limits, identity)?;
    if let Some(torn) = &recovered.torn {
        tracing::info!(?torn, "the journal's last entry was not finished; it had not been accepted");
    }
    if recovered.damaged.is_empty() {
        return Ok((store, restored(recovered)));
    }
    let left = salvage(store, &recovered, folder, identity);
    let (store, _) = Store::open(folder, limits, identity)?;
    let queues = left.into_iter().map(|(channel, messages)| {
        let mut queue = LaneQueue::new(usize::MAX);
        for message in messages {
            let size = message.to_line().len();
            let pending = queue.pending_bytes();
            let kept = store.keep(channel, Box::new(message), pending);
            queue.push_over(kept.unwrap_or_else(|full| Held::Memory(full.0)), size);
        }
        (channel, queue)
    });
    Ok((store.clone(), queues.collect()))
}

fn restored(recovered: Recovered) -> Vec<LaneOf> {
    let mut lanes = recovered.lanes;
    let queue = |channel| {
        // The journal has its own bound; the queue needs none.
        let Some(lane) = lanes.remove(&channel) else { return (channel, LaneQueue::new(usize::MAX)) };
        if !lane.messages.is_empty() {
            tracing::info!(%channel, messages = lane.messages.len(), "going on with what an earlier sidecar left");
        }
        let held = lane.messages.into_iter().map(|recorded| {
            let size = recorded.position.length as usize;
            (Held::Journal(recorded.position), size)
        });
        (channel, LaneQueue::restored(usize::MAX, lane.origin, lane.safe, held))
    };
    CHANNELS.into_iter().map(queue).collect()
}

/// Reads what can be read of a damaged journal, and moves it out of the way. Its messages lost their
/// count, and so are numbered anew: better one that comes twice than one that never comes.
fn salvage(
    store: Store,
    recovered: &Recovered,
    folder: &Path,
    identity: &Identity,
) -> Vec<(Channel, Vec<runcast_protocol::Message>)> {
    let aside = aside(folder);
    let lost: u64 = recovered.lanes.values().map(|lane| lane.lost).sum();
    tracing::error!(damaged = ?recovered.damaged, lost, aside = %aside.display(), "the journal is damaged; what can be read is sent again");
    let left = CHANNELS.map(|channel| {
        let positions = recovered.lanes.get(&channel).into_iter().flat_map(|lane| &lane.messages);
        let messages =
            positions.map(|recorded| store.load(channel, &Held::Journal(recorded.position), identity));
        (channel, messages.collect())
    });
    drop(store);
    if let Err(error) = std::fs::rename(folder, &aside) {
        tracing::error!(%error, "cannot move the damaged journal out of the way");
    }
    left.into()
}

fn aside(folder: &Path) -> PathBuf {
    let mut name = folder.as_os_str().to_owned();
    name.push(format!(".damaged-{}", jiff::Timestamp::now().as_second()));
    name.into()
}
