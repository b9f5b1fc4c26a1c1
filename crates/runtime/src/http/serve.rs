//! The accept loop.

use std::{convert::Infallible, future::Future, io, pin::pin, time::Duration};

use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Deserialize;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::{JoinError, JoinSet},
    time::sleep,
};
use tokio_io_timeout::TimeoutStream;

use super::{Body, Listener};
use crate::shutdown::{Shutdown, within};

/// What a connection may hold of a request's head, and of an answer not yet written, in bytes.
const MAX_BUFFER: usize = 64 * 1024;

/// How long not to accept after an error such as `EMFILE`, which would repeat at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The limits of a server.
#[derive(Clone, Debug, Deserialize)]
pub struct ServeOptions {
    /// How long a client may take to send a request's head; also how long an idle connection is kept.
    #[serde(with = "crate::duration")]
    pub header_timeout: Duration,
    /// How long the connections have to end by themselves once shutdown is asked for.
    #[serde(with = "crate::duration")]
    pub drain: Duration,
    /// Connections at a time; more wait in the kernel's backlog.
    pub max_connections: usize,
    /// A connection whose writes make no progress for so long is closed. Zero: never.
    #[serde(with = "crate::duration")]
    pub write_stall: Duration,
}

impl Default for ServeOptions {
    fn default() -> ServeOptions {
        ServeOptions {
            header_timeout: Duration::from_secs(30),
            drain: Duration::from_secs(10),
            max_connections: 1024,
            write_stall: Duration::from_secs(30),
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
            accepted = listener.accept(), if !full => match accepted {
                Ok(stream) => {
                    connections.spawn(connection(stream, service.clone(), options.clone(), shutdown.clone()));
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

async fn connection<S, F>(
    stream: impl AsyncRead + AsyncWrite,
    service: S,
    options: ServeOptions,
    shutdown: Shutdown,
) where
    S: Fn(Request<Incoming>) -> F,
    F: Future<Output = Response<Body>>,
{
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(options.write_stall).filter(|stall| !stall.is_zero()));
    let service = service_fn(move |request| {
        let answer = service(request);
        async { Ok::<_, Infallible>(answer.await) }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(options.header_timeout)
            .max_buf_size(MAX_BUFFER)
            // A client that is gone must end its answer, or an idle stream would be kept for nobody.
            .half_close(false)
            .serve_connection(TokioIo::new(Box::pin(stream)), service)
    );
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.triggered() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        // Clients that leave in the middle are everyday; whoever looks for one turns on debug.
        tracing::debug!(error = &error as &dyn std::error::Error, "connection ended early");
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
