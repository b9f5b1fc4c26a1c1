//! Ends leases: one clock and one ear for all of a service.

use std::time::Duration;

use jiff::Timestamp;
use runcast_bus::{Bus, Incoming, Subscriber};
use runcast_protocol::keys;
use tokio::time::MissedTickBehavior;

use crate::lease::Register;

/// How often it is looked whose time is over.
const LOOK: Duration = Duration::from_millis(250);
/// Revocations that may wait; for what does not fit all tokens are asked for again.
const REVOCATIONS: usize = 1024;
/// Pause before Redis is asked again that could not be asked.
const AGAIN: Duration = Duration::from_secs(1);

/// Works for ever.
pub(crate) async fn watch(leases: Register, bus: Bus, subscriber: Subscriber) {
    tokio::join!(expire(&leases), revoke(&leases, &bus, &subscriber));
}

async fn expire(leases: &Register) {
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        // By the clock on the wall, as tokens are: also where the machine has slept.
        leases.expire(milliseconds(Timestamp::now()));
    }
}

async fn revoke(leases: &Register, bus: &Bus, subscriber: &Subscriber) {
    let mut inbox = subscriber.inbox(REVOCATIONS);
    inbox.subscribe([keys::REVOKED.to_owned()]).await;
    loop {
        ask(leases, bus).await;
        while let Incoming::Payload(token) = inbox.next().await {
            if let Ok(token) = std::str::from_utf8(&token) {
                leases.revoke(token);
            }
        }
    }
}

/// Finds what was revoked while we could not hear it.
async fn ask(leases: &Register, bus: &Bus) {
    loop {
        match bus.revoked_among(leases.tokens()).await {
            Ok(revoked) => return revoked.iter().for_each(|token| leases.revoke(token)),
            Err(error) => {
                tracing::warn!(%error, "cannot ask which tokens were revoked; trying again");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

/// Since 1970.
pub(crate) fn milliseconds(time: Timestamp) -> u64 {
    u64::try_from(time.as_millisecond()).unwrap_or(0)
}
