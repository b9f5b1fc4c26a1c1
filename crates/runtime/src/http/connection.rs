//! One connection: which protocol it speaks, and who goes on with it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::{Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio::time::timeout;
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;

use super::clients::{Place, Visit};
use super::http1::{self, speak_http1};
use super::http2::speak_http2;
use super::serve::ServeOptions;
use super::socket::Socket;
use super::takeover::Desk;
use super::{Body, tls};
use crate::shutdown::Shutdown;

/// How an HTTP/2 client begins (RFC 9113 §3.4). All of it is waited for: the HTTP library would wait for ever.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How long to wait for more of a preface that came torn, which nobody's is: peeking would find the same
/// bytes again at once.
const TORN: Duration = Duration::from_millis(20);

/// What a connection needs to know.
pub(super) struct Context {
    pub(super) options: Arc<ServeOptions>,
    pub(super) shutdown: Shutdown,
    /// Whose it is, over TCP.
    pub(super) visit: Option<Visit>,
}

/// A connection over TCP.
pub(super) async fn tcp<S, F>(socket: Socket, _place: Place, service: S, context: Context)
where
    S: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    // In boxes of their own: a connection that is taken over may live for days, without what HTTP needs.
    let desk = Desk::default();
    let ended = match Box::pin(speak(socket.clone(), service, context, &desk)).await {
        Ok(http1::End::Taken) => desk.go_on(socket.into_stream()).await.map_err(Into::into),
        ended => ended.map(drop),
    };
    told(ended);
}

/// A connection over a Unix socket.
pub(super) async fn unix<S, F>(stream: UnixStream, service: S, context: Context)
where
    S: Fn(Request<Incoming>) -> F,
    F: Future<Output = Response<Body>>,
{
    let stream = timed(stream, &context.options);
    told(Box::pin(speak_http1(stream, service, context, None)).await.map(drop));
}

async fn speak<S, F>(socket: Socket, service: S, context: Context, desk: &Desk) -> anyhow::Result<http1::End>
where
    S: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let stream = timed(socket.clone(), &context.options);
    let patience = context.options.header_timeout;
    if let Some(tls) = &context.options.tls {
        let handshake = TlsAcceptor::from(tls.config()).accept(stream);
        let stream = until(&context.shutdown, timeout(patience, handshake)).await???;
        return match (stream.get_ref().1.alpn_protocol(), context.options.http2) {
            (Some(tls::H2), Some(http2)) => Box::pin(speak_http2(stream, service, context, http2)).await,
            _ => Box::pin(speak_http1(stream, service, context, None)).await,
        };
    }
    match context.options.http2 {
        Some(http2) if until(&context.shutdown, timeout(patience, speaks_http2(&socket))).await??? => {
            Box::pin(speak_http2(stream, service, context, http2)).await
        }
        _ => speak_http1(stream, service, context, Some((desk, &socket))).await,
    }
}

/// Whether the client begins with the preface of HTTP/2.
async fn speaks_http2(socket: &Socket) -> io::Result<bool> {
    let mut begin = [0; PREFACE.len()];
    loop {
        let seen = socket.peek(&mut begin).await?;
        if seen == PREFACE.len() || seen == 0 || !PREFACE.starts_with(&begin[..seen]) {
            return Ok(begin == *PREFACE);
        }
        tokio::time::sleep(TORN).await;
    }
}

/// An error on shutdown: who has not said yet what it wants is not waited for.
async fn until<T>(shutdown: &Shutdown, what: impl Future<Output = T>) -> io::Result<T> {
    tokio::select! {
        biased;
        outcome = what => Ok(outcome),
        () = shutdown.triggered() => Err(io::ErrorKind::ConnectionAborted.into()),
    }
}

fn timed<I: AsyncRead + AsyncWrite>(io: I, options: &ServeOptions) -> std::pin::Pin<Box<TimeoutStream<I>>> {
    let mut stream = TimeoutStream::new(io);
    stream.set_write_timeout(Some(options.write_stall).filter(|stall| !stall.is_zero()));
    Box::pin(stream)
}

fn told(ended: anyhow::Result<()>) {
    if let Err(error) = ended {
        // Clients that leave in the middle are everyday; whoever looks for one turns on debug.
        tracing::debug!(%error, "connection ended early");
    }
}
