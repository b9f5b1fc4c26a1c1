//! What Redis knows of the variation from before this sidecar was started, or from while it could not
//! be reached.

use runcast_bus::{Bus, BusError, EntryId};
use runcast_protocol::{Batch, Channel, Lane, Message, Status, Writer};

use crate::identity::Identity;

/// Entries read at once.
const PAGE: usize = 256;

/// The variation's last status, if its own sidecar ever gave one.
pub(crate) async fn last_status(bus: &Bus, identity: &Identity) -> Result<Option<Status>, BusError> {
    let mut last = None;
    each_status(bus, identity, |lane, status| {
        if lane.writer != Writer::Control {
            last = Some(status);
        }
    })
    .await?;
    Ok(last)
}

/// The terminal status that the control-plane gave the variation, if its own sidecar said nothing since.
pub(crate) async fn overruled(bus: &Bus, identity: &Identity) -> Result<Option<Status>, BusError> {
    let mut last = None;
    each_status(bus, identity, |lane, status| {
        let overruling = lane.writer == Writer::Control && status.state.is_terminal();
        last = overruling.then_some(status);
    })
    .await?;
    Ok(last)
}

/// Goes through the statuses of the variation, by whoever they are, in their order.
async fn each_status(
    bus: &Bus,
    identity: &Identity,
    mut each: impl FnMut(&Lane, Status),
) -> Result<(), BusError> {
    let own = identity.lane(Channel::Status);
    let mut after = EntryId::default();
    loop {
        let page = bus.read(&identity.run, &own, after, PAGE).await?;
        for batch in page.batches.into_iter().filter_map(|payload| Batch::parse(payload).ok()) {
            if batch.lane != own && batch.lane.writer != Writer::Control {
                continue;
            }
            for entry in batch.entries.iter().filter(|entry| entry.variation == identity.variation) {
                let Ok(message) = Message::parse(&entry.line) else { continue };
                if let Ok(status) = message.content.read() {
                    each(&batch.lane, status);
                }
            }
        }
        if page.is_last {
            return Ok(());
        }
        after = page.end;
    }
}
