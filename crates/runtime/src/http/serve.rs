//! The accept loop.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    io,
    pin::pin,
    task::Poll,
    time::Duration,
};

use hyper::{Method, Request, Response, Version, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Deserialize;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::UnixStream,
    task::{JoinError, JoinSet},
    time::sleep,
};
use tokio_io_timeout::TimeoutStream;
use tokio_util::either::Either;

use super::{Body, CanTakeOver, Listener, socket::Socket, takeover::Desk};
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
    stream: Either<Socket, UnixStream>,
    service: S,
    options: ServeOptions,
    shutdown: Shutdown,
) where
    S: Fn(Request<Incoming>) -> F,
    F: Future<Output = Response<Body>>,
{
    // In a box of its own: a connection that is taken over may live for days, without what HTTP needs.
    let desk = Desk::default();
    let ended = match stream {
        Either::Left(socket) => {
            let taken =
                Box::pin(speak_http(socket.clone(), service, options, shutdown, Some((&desk, &socket))))
                    .await;
            match taken {
                Ok(true) => desk.go_on(socket.into_stream()).await.map_err(anyhow::Error::from),
                ended => ended.map(drop).map_err(anyhow::Error::from),
            }
        }
        Either::Right(stream) => {
            let ended = Box::pin(speak_http(stream, service, options, shutdown, None)).await;
            ended.map(drop).map_err(anyhow::Error::from)
        }
    };
    if let Err(error) = ended {
        // Clients that leave in the middle are everyday; whoever looks for one turns on debug.
        tracing::debug!(%error, "connection ended early");
    }
}

/// Answers requests until the connection ends or, as it says then, an answer takes it over.
async fn speak_http<S, F>(
    stream: impl AsyncRead + AsyncWrite,
    service: S,
    options: ServeOptions,
    shutdown: Shutdown,
    takes_over: Option<(&Desk, &Socket)>,
) -> hyper::Result<bool>
where
    S: Fn(Request<Incoming>) -> F,
    F: Future<Output = Response<Body>>,
{
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(options.write_stall).filter(|stall| !stall.is_zero()));
    let service = service_fn(move |mut request| {
        let desk = takes_over.map(|(desk, _)| desk);
        let desk = desk.filter(|_| request.version() == Version::HTTP_11 && request.method() == Method::GET);
        if desk.is_some() {
            request.extensions_mut().insert(CanTakeOver);
        }
        let answer = service(request);
        async move {
            let mut response = answer.await;
            if desk.is_some_and(|desk| desk.offer(&mut response)) {
                // Whoever polls the connection sees it, and drops this.
                std::future::pending::<()>().await;
            }
            Ok::<_, Infallible>(response)
        }
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
    let mut stopping = pin!(shutdown.triggered());
    let mut stops = false;
    poll_fn(|cx| {
        if !stops && stopping.as_mut().poll(cx).is_ready() {
            stops = true;
            connection.as_mut().graceful_shutdown();
        }
        match connection.as_mut().poll(cx) {
            Poll::Ready(ended) => Poll::Ready(ended.map(|()| false)),
            // Not before what was answered to earlier requests has gone out.
            Poll::Pending
                if takes_over.is_some_and(|(desk, socket)| desk.is_taken() && !socket.is_full()) =>
            {
                Poll::Ready(Ok(true))
            }
            Poll::Pending => Poll::Pending,
        }
    })
    .await
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
