//! Who is let in.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method};
use jiff::Timestamp;
use runcast_bus::{Bus, Subscriber};
use runcast_runtime::rates::Rates;
use tokio_util::task::AbortOnDropHandle;

use crate::config::{AuthConfig, Mode};
use crate::lease::Register;
use crate::warden;
use crate::{Access, Denied, Grant, Ticket, TicketRequest, Token, Verifier};

/// Lets in who has a token. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Gate(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    bus: Bus,
    /// None where no tokens are asked for.
    checks: Option<Checks>,
}

#[derive(Debug)]
struct Checks {
    verifier: Verifier,
    cookie: String,
    rates: Rates<u64>,
    leases: Register,
    _warden: AbortOnDropHandle<()>,
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
        let checks = match config.mode {
            Mode::Jwt => {
                let (verifier, leases) = (Verifier::open(config)?, Register::default());
                let warden = tokio::spawn(warden::watch(leases.clone(), bus.clone(), subscriber));
                let cookie = config.cookie.clone();
                let rates = Rates::new(config.rate());
                Some(Checks { verifier, cookie, rates, leases, _warden: AbortOnDropHandle::new(warden) })
            }
            Mode::Unset if !address.ip().is_loopback() => anyhow::bail!(
                "auth.mode is not set, and {address} can be reached from other machines: set it to jwt, or to \
                 off if whoever comes may see and do everything"
            ),
            Mode::Unset | Mode::Off => {
                tracing::warn!(%address, "AUTHENTICATION IS OFF: whoever comes may see and do everything");
                None
            }
        };
        Ok(Self(Arc::new(Inner { bus, checks })))
    }

    /// What a request may do, by its token.
    ///
    /// # Errors
    /// Any [`Denied`] but [`Denied::Forbidden`] and [`Denied::Spent`].
    pub async fn admit(&self, method: &Method, headers: &HeaderMap) -> Result<Access, Denied> {
        let Some(checks) = &self.0.checks else { return Ok(Access::to_everything()) };
        let token = Token::of(method, headers, &checks.cookie).ok_or(Denied::Missing)?;
        let grant = checks.verifier.verify(&token, Timestamp::now()).await?;
        self.enter(checks, grant).await
    }

    /// The same for who may come with a ticket in the address instead, which counts more than headers do and is
    /// used up by it. A stream that begins with it lives as long as the token that it was had for.
    ///
    /// # Errors
    /// Any [`Denied`] but [`Denied::Forbidden`].
    pub async fn admit_with(
        &self,
        method: &Method,
        headers: &HeaderMap,
        ticket: Option<&str>,
    ) -> Result<Access, Denied> {
        let (Some(checks), Some(ticket)) = (&self.0.checks, ticket) else {
            return self.admit(method, headers).await;
        };
        let ticket = Ticket::parse(ticket).ok_or(Denied::Spent)?;
        let claims = self.0.bus.take_ticket(&ticket.digest()).await.map_err(unavailable)?;
        let grant = Grant::parse(&claims.ok_or(Denied::Spent)?)?;
        if checks.end(&grant) <= warden::milliseconds(Timestamp::now()) {
            return Err(Denied::Expired);
        }
        self.enter(checks, grant).await
    }

    /// A ticket for viewing what the access allows and the request asks for, which can be used for `life`.
    /// Where no tokens are asked for, one that nobody needs.
    ///
    /// # Errors
    /// [`Denied::Forbidden`] if it asks for more than the access allows; [`Denied::Unavailable`].
    pub async fn ticket(
        &self,
        access: &Access,
        request: &TicketRequest,
        life: Duration,
    ) -> Result<Ticket, Denied> {
        let ticket = Ticket::new()?;
        if let Some(grant) = access.grant() {
            let claims = grant.narrowed(request)?.claims();
            self.0.bus.keep_ticket(&ticket.digest(), claims.into(), life).await.map_err(unavailable)?;
        }
        Ok(ticket)
    }

    /// Lets somebody in, unless it comes too often or the token was revoked. It is entered before that is asked: a revocation from
    /// before is found, and one from now on is heard.
    async fn enter(&self, checks: &Checks, grant: Grant) -> Result<Access, Denied> {
        checks.rates.count(&grant.holder()).map_err(Denied::TooOften)?;
        let lease = checks.leases.enter(checks.end(&grant), grant.id());
        if let Some(id) = grant.id()
            && self.0.bus.is_revoked(id).await.map_err(unavailable)?
        {
            return Err(Denied::Revoked);
        }
        Ok(Access::new(grant, lease))
    }
}

impl Checks {
    /// When what is granted ends, in milliseconds since 1970.
    fn end(&self, grant: &Grant) -> u64 {
        grant.expires().saturating_add(self.verifier.leeway()).saturating_mul(1000)
    }
}

fn unavailable(error: runcast_bus::BusError) -> Denied {
    tracing::warn!(%error, "cannot ask redis about a token");
    Denied::Unavailable
}
