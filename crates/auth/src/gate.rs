//! Who is let in.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method};
use jiff::Timestamp;
use runcast_bus::{Bus, Inbox, Incoming, Subscriber};
use runcast_protocol::{RunId, keys};

use crate::config::{AuthConfig, Mode};
use crate::{Denied, Grant, Operation, Token, Verifier};

/// Revocations that may wait for a stream; what does not fit is asked for.
const REVOCATIONS: usize = 64;
/// Whether a stream's token was revoked is asked again after so long, if Redis could not be asked.
const AGAIN: Duration = Duration::from_secs(1);

/// Lets in who has a token. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Gate(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    verifier: Option<Verifier>,
    cookie: String,
    bus: Bus,
    subscriber: Subscriber,
}

/// What somebody who was let in may do.
#[derive(Debug, Clone)]
pub struct Access {
    /// None where no tokens are asked for: everything.
    grant: Option<Arc<Grant>>,
    gate: Gate,
}

impl Gate {
    /// As configured, for a service that listens at `address`. Says so in the log if nobody is asked for a token.
    ///
    /// # Errors
    /// If nothing is configured and others than this machine can come, or the keys cannot be used.
    pub fn open(
        config: &AuthConfig,
        address: SocketAddr,
        bus: Bus,
        subscriber: Subscriber,
    ) -> anyhow::Result<Self> {
        let verifier = match config.mode {
            Mode::Jwt => Some(Verifier::open(config)?),
            Mode::Unset if !address.ip().is_loopback() => anyhow::bail!(
                "auth.mode is not set, and {address} can be reached from other machines: set it to jwt, or to \
                 off if whoever comes may see and do everything"
            ),
            Mode::Unset | Mode::Off => {
                tracing::warn!(%address, "AUTHENTICATION IS OFF: whoever comes may see and do everything");
                None
            }
        };
        Ok(Self(Arc::new(Inner { verifier, cookie: config.cookie.clone(), bus, subscriber })))
    }

    /// What a request may do, by its token.
    ///
    /// # Errors
    /// Any [`Denied`] but [`Denied::Forbidden`].
    pub async fn admit(&self, method: &Method, headers: &HeaderMap) -> Result<Access, Denied> {
        let Some(verifier) = &self.0.verifier else { return Ok(Access { grant: None, gate: self.clone() }) };
        let token = Token::of(method, headers, &self.0.cookie).ok_or(Denied::Missing)?;
        let grant = verifier.verify(&token, Timestamp::now()).await?;
        self.check_revoked(&grant).await?;
        Ok(Access { grant: Some(Arc::new(grant)), gate: self.clone() })
    }

    async fn check_revoked(&self, grant: &Grant) -> Result<(), Denied> {
        let Some(id) = grant.id() else { return Ok(()) };
        match self.0.bus.is_revoked(id).await {
            Ok(false) => Ok(()),
            Ok(true) => Err(Denied::Revoked),
            Err(error) => {
                tracing::warn!(%error, "cannot ask whether a token was revoked");
                Err(Denied::Unavailable)
            }
        }
    }
}

impl Access {
    /// Whether it allows an operation on a run; to be asked before anybody looks whether there is such a run.
    ///
    /// # Errors
    /// [`Denied::Forbidden`].
    pub fn may(&self, operation: Operation, run: &RunId) -> Result<(), Denied> {
        self.grant.as_ref().map_or(Ok(()), |grant| grant.may(operation, run))
    }

    /// Whether it allows an operation on some run.
    ///
    /// # Errors
    /// [`Denied::Forbidden`].
    pub fn allows(&self, operation: Operation) -> Result<(), Denied> {
        self.grant.as_ref().map_or(Ok(()), |grant| grant.allows(operation))
    }

    /// Whether it covers a run: what lists show.
    #[must_use]
    pub fn covers(&self, run: &RunId) -> bool {
        self.grant.as_ref().is_none_or(|grant| grant.covers(run))
    }

    /// Whether it allows what tells something of all channels.
    ///
    /// # Errors
    /// [`Denied::Forbidden`].
    pub fn all_channels(&self) -> Result<(), Denied> {
        self.grant.as_ref().map_or(Ok(()), |grant| grant.all_channels())
    }

    /// A query, narrowed to the channels that it allows.
    ///
    /// # Errors
    /// [`Denied::Forbidden`] if it names another.
    pub fn narrow(&self, query: &str) -> Result<String, Denied> {
        self.grant.as_ref().map_or_else(|| Ok(query.to_owned()), |grant| grant.narrow(query))
    }

    /// Who it is, if a token says so.
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        self.grant.as_ref()?.subject()
    }

    /// Waits until it is over: [`Denied::Expired`] or [`Denied::Revoked`].
    pub async fn ends(self) -> Denied {
        let Some(grant) = &self.grant else { return std::future::pending().await };
        let leeway = self.gate.0.verifier.as_ref().map_or(0, Verifier::leeway);
        let left = grant.lives(Timestamp::now()).unwrap_or_default() + Duration::from_secs(leeway);
        tokio::select! {
            () = tokio::time::sleep(left) => Denied::Expired,
            () = self.revoked(grant) => Denied::Revoked,
        }
    }

    async fn revoked(&self, grant: &Grant) {
        let Some(id) = grant.id() else { return std::future::pending().await };
        let mut inbox: Inbox = self.gate.0.subscriber.inbox(REVOCATIONS);
        inbox.subscribe([keys::REVOKED.to_owned()]).await;
        loop {
            // It may have been revoked before we listened.
            match self.gate.check_revoked(grant).await {
                Err(Denied::Revoked) => return,
                Err(_) => {
                    tokio::time::sleep(AGAIN).await;
                    continue;
                }
                Ok(()) => {}
            }
            loop {
                match inbox.next().await {
                    Incoming::Payload(token) if token == id.as_bytes() => return,
                    Incoming::Payload(_) => {}
                    Incoming::Missed => break,
                }
            }
        }
    }
}
