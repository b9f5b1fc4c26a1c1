//! The accept loop.

use std::{future::Future, io, pin::pin, sync::Arc, time::Duration};

use hyper::{Request, Response, body::Incoming};
use tokio::{
    task::{JoinError, JoinSet},
    time::sleep,
};
use tokio_util::either::Either;

use super::{
    Body, Listener, Proxies, Tls,
    clients::Limits,
    connection::{Context, tcp, unix},
    http2::Http2Options,
};
use crate::rates::Rate;
use crate::shutdown::{Shutdown, within};

/// How long not to accept after an error such as `EMFILE`, which would repeat at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The limits of a server.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// How long a client may take to send a request's head, and before that for TLS; also how long an idle
    /// connection is kept.
    pub header_timeout: Duration,
    /// How long the connections have to end by themselves once shutdown is asked for.
    pub drain: Duration,
    /// Connections at a time; more wait in the kernel's backlog.
    pub max_connections: usize,
    /// A connection whose writes make no progress for so long is closed. Of an HTTP/2 connection, a stream
    /// whose client takes less than one frame, 16 KiB, in so long is reset; the others go on. Zero: never.
    pub write_stall: Duration,
    /// Connections of one client at a time, an IPv6 client being a /64; further ones are closed. Of a trusted
    /// proxy any number is taken. Where one connection may carry several streams, or those of several clients,
    /// as many streams may be open for one client; further requests are answered with 429. Zero: no limit.
    pub max_connections_per_client: usize,
    /// Requests of one client; further ones are answered with 429 and when to come back. Connections may come
    /// twice as often; further ones are closed, which spares us their handshakes. Trusted proxies as often as
    /// they like.
    pub requests_per_client: Rate,
    /// The proxies that are believed when they say whom a request comes from.
    pub proxies: Proxies,
    /// Speaks HTTP/2 as well, with clients that begin with it (RFC 9113 §3.3) or choose it in TLS. The
    /// `Upgrade: h2c` of old, which RFC 9113 has taken out, is not followed.
    pub http2: Option<Http2Options>,
    /// Speaks TLS, over TCP.
    pub tls: Option<Tls>,
}

impl Default for ServeOptions {
    fn default() -> ServeOptions {
        ServeOptions {
            header_timeout: Duration::from_secs(30),
            drain: Duration::from_secs(10),
            max_connections: 1024,
            write_stall: Duration::from_secs(30),
            max_connections_per_client: 0,
            requests_per_client: Rate::UNLIMITED,
            proxies: Proxies::default(),
            http2: None,
            tls: None,
        }
    }
}

/// Answers every request on every connection with `service`, until `shutdown`.
///
/// Then accepts no more, closes idle connections, lets running answers finish for up to
/// [`ServeOptions::drain`] and cuts what is left. An answer that never ends by itself must watch the
/// shutdown too. A panic in `service` costs its own connection only.
pub async fn serve<S, F>(listener: impl Into<Listener>, service: S, options: ServeOptions, shutdown: Shutdown)
where
    S: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let listener = listener.into();
    let options = Arc::new(options);
    let limits =
        Limits::new(options.max_connections_per_client, options.requests_per_client, options.proxies.clone());
    let tls = options.tls.clone();
    let mut following_files = pin!(async {
        match tls {
            Some(tls) => tls.follow_files().await,
            None => std::future::pending().await,
        }
    });
    let mut connections = JoinSet::new();
    let mut full = false;
    loop {
        if !full && connections.len() >= options.max_connections {
            tracing::warn!(
                max_connections = options.max_connections,
                "connection limit reached, new ones wait"
            );
        }
        full = connections.len() >= options.max_connections;
        tokio::select! {
            biased;
            () = shutdown.triggered() => break,
            Some(ended) = connections.join_next() => report(ended),
            () = &mut following_files => {}
            accepted = listener.accept(), if !full => match accepted {
                Ok(Either::Left((socket, peer))) => {
                    // Dropped is closed.
                    let Some((visit, place)) = limits.let_in(peer) else { continue };
                    let context = Context { options: options.clone(), shutdown: shutdown.clone(), visit: Some(visit) };
                    connections.spawn(tcp(socket, place, service.clone(), context));
                }
                Ok(Either::Right(stream)) => {
                    let context = Context { options: options.clone(), shutdown: shutdown.clone(), visit: None };
                    connections.spawn(unix(stream, service.clone(), context));
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections, trying again");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
    drop(listener);
    let all_ended = async {
        while let Some(ended) = connections.join_next().await {
            report(ended);
        }
    };
    if !within(options.drain, "drain connections", all_ended).await {
        connections.shutdown().await;
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a connection's task failed");
    }
}
