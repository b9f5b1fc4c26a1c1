//! How much one client may have open at a time, and how often it may come.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{Request, Response, StatusCode};
use opentelemetry::metrics::Counter;
use opentelemetry::{KeyValue, global};

use super::{Body, Proxies, problem};
use crate::rates::{Rate, Rates, retry_after};

/// Connections and requests that were refused for what their client has open or how often it comes.
const REFUSED: &str = "runcast.http.refused";

/// When to look again whether one of a client's streams has ended: nobody can know.
const STREAM_ENDS: Duration = Duration::from_secs(5);

/// Where a request comes from, as far as proxies are trusted to tell: stands among the extensions of
/// every request that came over TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddress(pub IpAddr);

/// A server's limits on its clients.
#[derive(Debug)]
pub(super) struct Limits {
    proxies: Proxies,
    connections: Counts,
    answers: Counts,
    connecting: Rates<IpAddr>,
    asking: Rates<IpAddr>,
    refused: Counter<u64>,
}

/// Why a connection or a request is not let in.
#[derive(Clone, Copy, Debug)]
enum Why {
    TooManyOpen,
    TooOften(Duration),
}

/// A connection's client, and what it may still open.
#[derive(Clone, Debug)]
pub(super) struct Visit {
    limits: Arc<Limits>,
    peer: IpAddr,
    is_proxy: bool,
}

impl Limits {
    /// At most `most` connections of a client, and at most as many requests answered at a time where a
    /// connection may carry several clients' or more than one of a client. Zero: no limit. Requests as often
    /// as `rate` says, and connections twice as often, so that who asks anew over each is told why.
    pub(super) fn new(most: usize, rate: Rate, proxies: Proxies) -> Arc<Self> {
        let refused = global::meter("runcast-runtime")
            .u64_counter(REFUSED)
            .with_unit("{refusal}")
            .with_description("Connections and requests refused for what their client has open, or its rate")
            .build();
        let (connections, answers) = (Counts::new(most), Counts::new(most));
        let (connecting, asking) = (Rates::new(rate.twice()), Rates::new(rate));
        Arc::new(Self { proxies, connections, answers, connecting, asking, refused })
    }

    /// Lets a connection in, unless its client has too many or comes too often. A trusted proxy may have any
    /// number.
    pub(super) fn let_in(self: &Arc<Self>, peer: IpAddr) -> Option<(Visit, Place)> {
        let is_proxy = self.proxies.trusts(peer);
        let place = if is_proxy { Ok(Place::default()) } else { self.connect(peer) };
        let place = place.map_err(|why| self.refuse("connection", peer, why)).ok()?;
        Some((Visit { limits: self.clone(), peer, is_proxy }, place))
    }

    fn connect(&self, peer: IpAddr) -> Result<Place, Why> {
        self.connecting.count(&network(peer)).map_err(Why::TooOften)?;
        self.connections.take(peer).ok_or(Why::TooManyOpen)
    }

    fn refuse(&self, what: &'static str, client: IpAddr, why: Why) {
        let reason = match why {
            Why::TooManyOpen => "open",
            Why::TooOften(_) => "rate",
        };
        self.refused.add(1, &[KeyValue::new("what", what), KeyValue::new("reason", reason)]);
        tracing::debug!(%client, what, reason, "refused");
    }
}

impl Visit {
    /// Says whose request it is, and lets it in unless there are too many of that client. On a connection
    /// of one client with one request at a time, the connection is what counts.
    fn admit<B>(&self, request: &mut Request<B>, one_by_one: bool) -> Result<Place, Box<Response<Body>>> {
        let Limits { proxies, answers, asking, .. } = &*self.limits;
        let client = if self.is_proxy {
            proxies.client(self.peer, request.headers())
        } else {
            self.peer.to_canonical()
        };
        request.extensions_mut().insert(ClientAddress(client));
        // A proxy that asks for itself, say whether we are well.
        if proxies.trusts(client) {
            return Ok(Place::default());
        }
        let place = asking.count(&network(client)).map_err(Why::TooOften).and_then(|()| {
            if one_by_one && !self.is_proxy {
                return Ok(Place::default());
            }
            answers.take(client).ok_or(Why::TooManyOpen)
        });
        place.map_err(|why| {
            self.limits.refuse("request", client, why);
            Box::new(why.answer())
        })
    }
}

impl Why {
    fn answer(self) -> Response<Body> {
        let (detail, wait) = match self {
            Self::TooManyOpen => {
                ("too many streams are open from your address; close some, or try again later", STREAM_ENDS)
            }
            Self::TooOften(wait) => ("too many requests from your address; come back later", wait),
        };
        let mut response = problem(StatusCode::TOO_MANY_REQUESTS, detail);
        retry_after(response.headers_mut(), wait);
        response
    }
}

/// [`Visit::admit`], where there is one: over a Unix socket everybody is welcome.
pub(super) fn admit<B>(
    visit: Option<&Visit>,
    request: &mut Request<B>,
    one_by_one: bool,
) -> Result<Place, Box<Response<Body>>> {
    visit.map_or_else(|| Ok(Place::default()), |visit| visit.admit(request, one_by_one))
}

/// How many each client has.
#[derive(Clone, Debug)]
struct Counts {
    most: usize,
    open: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// One of those that a client may have, until it is dropped.
#[derive(Debug, Default)]
pub(super) struct Place(Option<(Counts, IpAddr)>);

impl Counts {
    fn new(most: usize) -> Self {
        Self { most, open: Arc::default() }
    }

    fn take(&self, address: IpAddr) -> Option<Place> {
        if self.most == 0 {
            return Some(Place::default());
        }
        let network = network(address);
        let mut open = self.lock();
        let count = open.entry(network).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Place(Some((self.clone(), network))))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Whether anything depends on when it is dropped.
    pub(super) fn is_counted(&self) -> bool {
        self.0.is_some()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some((counts, network)) = self.0.take() else { return };
        let mut open = counts.lock();
        if let Some(count) = open.get_mut(&network) {
            *count -= 1;
            if *count == 0 {
                open.remove(&network);
            }
        }
    }
}

/// What counts as one client: an IPv4 address, or the /64 that a subscriber of IPv6 has to choose from.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_client_has_its_share_and_gets_it_back() {
        let counts = Counts::new(2);
        let first = counts.take(ip("10.0.0.1")).unwrap();
        let _second = counts.take(ip("::ffff:10.0.0.1")).unwrap();
        assert!(counts.take(ip("10.0.0.1")).is_none());
        assert!(counts.take(ip("10.0.0.2")).is_some());
        drop(first);
        assert!(counts.take(ip("10.0.0.1")).is_some());
        assert_eq!(counts.lock().len(), 1, "who has nothing open is forgotten");
    }

    #[test]
    fn ipv6_counts_by_64() {
        let counts = Counts::new(1);
        let _first = counts.take(ip("2001:db8:0:1::1")).unwrap();
        assert!(counts.take(ip("2001:db8:0:1:ffff::2")).is_none());
        assert!(counts.take(ip("2001:db8:0:2::1")).is_some());
    }
}
