//! What somebody who was let in may do.

use std::sync::Arc;

use runcast_protocol::RunId;

use crate::{Denied, Grant, Lease, Operation};

/// What somebody who was let in may do. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Access {
    /// None where no tokens are asked for: everything, and for ever.
    held: Option<(Arc<Grant>, Arc<Lease>)>,
}

impl Access {
    pub(crate) fn to_everything() -> Self {
        Self { held: None }
    }

    pub(crate) fn new(grant: Grant, lease: Arc<Lease>) -> Self {
        Self { held: Some((Arc::new(grant), lease)) }
    }

    pub(crate) fn grant(&self) -> Option<&Grant> {
        self.held.as_ref().map(|(grant, _)| &**grant)
    }

    /// How long it lasts, for who needs nothing else of it; none: for ever.
    #[must_use]
    pub fn lease(&self) -> Option<Arc<Lease>> {
        self.held.as_ref().map(|(_, lease)| lease.clone())
    }

    /// Whether it allows an operation on a run; to be asked before anybody looks whether there is such a run.
    ///
    /// # Errors
    /// [`Denied::Forbidden`].
    pub fn may(&self, operation: Operation, run: &RunId) -> Result<(), Denied> {
        self.grant().map_or(Ok(()), |grant| grant.may(operation, run))
    }

    /// Whether it allows an operation on some run.
    ///
    /// # Errors
    /// [`Denied::Forbidden`].
    pub fn allows(&self, operation: Operation) -> Result<(), Denied> {
        self.grant().map_or(Ok(()), |grant| grant.allows(operation))
    }

    /// Whether it covers a run: what lists show.
    #[must_use]
    pub fn covers(&self, run: &RunId) -> bool {
        self.grant().is_none_or(|grant| grant.covers(run))
    }

    /// Whether it allows what tells something of all channels.
    ///
    /// # Errors
    /// [`Denied::Forbidden`].
    pub fn all_channels(&self) -> Result<(), Denied> {
        self.grant().map_or(Ok(()), Grant::all_channels)
    }

    /// A query, narrowed to the channels that it allows.
    ///
    /// # Errors
    /// [`Denied::Forbidden`] if it names another.
    pub fn narrow(&self, query: &str) -> Result<String, Denied> {
        self.grant().map_or_else(|| Ok(query.to_owned()), |grant| grant.narrow(query))
    }

    /// Who it is, if a token says so.
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        self.grant()?.subject()
    }

    /// Tells tokens apart, for who counts what is done with each; none where no tokens are asked for.
    #[must_use]
    pub fn fingerprint(&self) -> Option<u64> {
        self.grant().map(Grant::fingerprint)
    }

    /// Tells those who hold tokens apart: by the subject or, where a token names none, its id, or else by all that it
    /// says. The tickets of a token count as the token does. None where no tokens are asked for.
    #[must_use]
    pub fn holder(&self) -> Option<u64> {
        self.grant().map(Grant::holder)
    }

    /// Waits until it is over: [`Denied::Expired`] or [`Denied::Revoked`].
    pub async fn ends(self) -> Denied {
        Lease::end_of(self.lease().as_ref()).await
    }
}
