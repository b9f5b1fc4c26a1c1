//! What Redis knows of the variation from before this sidecar was started.

use runcast_bus::{Bus, BusError, EntryId};
use runcast_protocol::{Batch, Channel, Message, Status};

use crate::identity::Identity;

/// Entries read at once.
const PAGE: usize = 256;

/// The variation's last status, if its own sidecar ever gave one.
pub(crate) async fn last_status(bus: &Bus, identity: &Identity) -> Result<Option<Status>, BusError> {
    let lane = identity.lane(Channel::Status);
    let (mut after, mut last) = (EntryId::default(), None);
    loop {
        let page = bus.read(&identity.run, &lane, after, PAGE).await?;
        for batch in page.batches.into_iter().filter_map(|payload| Batch::parse(payload).ok()) {
            let own = batch.entries.iter().filter(|_| batch.lane == lane);
            let statuses = own.filter_map(|entry| Message::parse(&entry.line).ok()?.content.read().ok());
            last = statuses.last().or(last);
        }
        if page.is_last {
            return Ok(last);
        }
        after = page.end;
    }
}
