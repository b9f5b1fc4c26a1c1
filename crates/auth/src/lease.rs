//! How long somebody's access lasts.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::Notify;

use crate::Denied;
use crate::leases::{Leases, Place};

/// Somebody's access for as long as it is held: until its token expires or is revoked. Costs no task and no
/// timer; one clock and one ear for all of a service end them, see [`crate::Gate`].
#[derive(Debug)]
pub struct Lease {
    end: OnceLock<Denied>,
    told: Notify,
    place: Place,
    held: Register,
}

/// The leases that are held. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Register(Arc<Mutex<Leases>>);

impl Lease {
    /// Waits until it is over: [`Denied::Expired`] or [`Denied::Revoked`]. Can be cancelled, and awaited again.
    pub async fn ended(&self) -> Denied {
        loop {
            // Made before it is looked, so that what comes in between is heard.
            let told = self.told.notified();
            if let Some(denied) = self.end.get() {
                return *denied;
            }
            told.await;
        }
    }

    /// Whether it is over.
    pub fn has_ended(&self) -> bool {
        self.end.get().is_some()
    }

    /// The same as [`Self::ended`] for who may have none, where no tokens are asked for: waits for ever.
    pub async fn end_of(lease: Option<&Arc<Self>>) -> Denied {
        match lease {
            Some(lease) => lease.ended().await,
            None => std::future::pending().await,
        }
    }

    fn end(&self, denied: Denied) {
        // Whoever ends it first says why.
        let _ = self.end.set(denied);
        self.told.notify_waiters();
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.held.lock().leave(self.place);
    }
}

impl Register {
    /// A lease that ends at `end`, in milliseconds since 1970, or when `token` is revoked.
    pub(crate) fn enter(&self, end: u64, token: Option<&str>) -> Arc<Lease> {
        let mut leases = self.lock();
        let place = leases.place(end);
        let lease = Arc::new(Lease { end: OnceLock::new(), told: Notify::new(), place, held: self.clone() });
        leases.enter(place, token, Arc::downgrade(&lease));
        lease
    }

    /// Ends those whose time is over at `now`, in milliseconds since 1970.
    pub(crate) fn expire(&self, now: u64) {
        let expired = self.lock().expired(now);
        // Not while it is locked: to let go of a lease locks it, too.
        expired.iter().filter_map(std::sync::Weak::upgrade).for_each(|lease| lease.end(Denied::Expired));
    }

    /// Ends those of a token.
    pub(crate) fn revoke(&self, token: &str) {
        let revoked = self.lock().revoked(token);
        revoked.iter().filter_map(std::sync::Weak::upgrade).for_each(|lease| lease.end(Denied::Revoked));
    }

    /// The tokens that are held and can be revoked.
    pub(crate) fn tokens(&self) -> Vec<Arc<str>> {
        self.lock().tokens()
    }

    fn lock(&self) -> MutexGuard<'_, Leases> {
        // A panic while holding the lock leaves at worst a lease that has nobody.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_who_wait_are_told_and_who_asks_later_as_well() {
        let register = Register::default();
        let lease = register.enter(10, Some("t"));
        let waiting = [(); 3].map(|()| {
            let lease = lease.clone();
            tokio::spawn(async move { lease.ended().await })
        });
        tokio::task::yield_now().await;
        register.expire(9);
        register.revoke("t");
        register.expire(10);
        for waiting in waiting {
            assert_eq!(waiting.await.unwrap(), Denied::Revoked);
        }
        assert_eq!(lease.ended().await, Denied::Revoked);
        let other = register.enter(10, None);
        register.expire(10);
        assert_eq!(Lease::end_of(Some(&other)).await, Denied::Expired);
    }

    #[test]
    fn who_leaves_is_forgotten() {
        let register = Register::default();
        drop(register.enter(10, Some("t")));
        assert!(register.tokens().is_empty());
    }
}
