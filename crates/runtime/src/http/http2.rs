//! A connection that speaks HTTP/2.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::clients::admit;
use super::connection::Context;
use super::http1::End;
use super::patience::{held, paced, patient};
use super::{Body, guard};

/// Of an answer, what may wait for its client beside the piece that it was last given, in bytes.
const SEND_BUFFER: usize = 32 * 1024;
/// Of a request's body, and of all bodies of a connection, what a client may send before we have read it.
const RECEIVE_WINDOW: u32 = 64 * 1024;
/// A request's head, in bytes; as much as over HTTP/1.1.
const MAX_HEADERS: u32 = 64 * 1024;
/// Requests that a client has taken back at once and that we still have to forget; one who has more of them is
/// not served any longer ("rapid reset", CVE-2023-44487).
const MAX_RESETS: usize = 20;

/// How HTTP/2 is spoken.
#[derive(Clone, Copy, Debug)]
pub struct Http2Options {
    /// Requests at a time on one connection; a client opens another connection for more, or waits.
    pub max_streams: u32,
    /// After so much silence of the client it is asked whether it is still there, and has as long to answer.
    pub keepalive: Duration,
    /// A connection that has had no request open for so long, to twice that, is closed.
    pub idle: Duration,
}

impl Default for Http2Options {
    fn default() -> Self {
        Self { max_streams: 256, keepalive: Duration::from_secs(20), idle: Duration::from_secs(30) }
    }
}

/// Answers requests until the connection ends.
pub(super) async fn speak_http2<I, S, F>(
    stream: I,
    service: S,
    context: Context,
    http2: Http2Options,
) -> anyhow::Result<End>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let Context { options, shutdown, visit } = context;
    let streams = Streams { stall: options.write_stall, ..Streams::default() };
    // However this ends, its streams end with it.
    let _ending = streams.ending.clone().drop_guard();
    let answering = service_fn(move |mut request: Request<Incoming>| {
        let answer = admit(visit.as_ref(), &mut request, false).map(|place| (place, service(request)));
        async move {
            let (place, answer) = match answer {
                Ok(admitted) => admitted,
                Err(mut refusal) => {
                    guard(&mut refusal);
                    return Ok(*refusal);
                }
            };
            let mut response = answer.await;
            guard(&mut response);
            Ok::<_, Infallible>(response.map(|body| held(paced(body), Some(place))))
        }
    });
    let mut connection = pin!(
        http2::Builder::new(streams.clone())
            .timer(TokioTimer::new())
            .max_concurrent_streams(http2.max_streams)
            .keep_alive_interval(Some(http2.keepalive).filter(|interval| !interval.is_zero()))
            .keep_alive_timeout(http2.keepalive)
            .max_send_buf_size(SEND_BUFFER)
            .initial_stream_window_size(RECEIVE_WINDOW)
            .initial_connection_window_size(RECEIVE_WINDOW)
            .max_header_list_size(MAX_HEADERS)
            .max_pending_accept_reset_streams(MAX_RESETS)
            .serve_connection(TokioIo::new(stream), answering)
    );
    let mut stopping = pin!(shutdown.triggered());
    let mut stops = false;
    let mut idle = pin!(sleep_until(Instant::now() + http2.idle));
    let mut was_begun = 0;
    poll_fn(|cx| {
        if !stops && stopping.as_mut().poll(cx).is_ready() {
            stops = true;
            connection.as_mut().graceful_shutdown();
        }
        if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
            return Poll::Ready(ended);
        }
        while idle.as_mut().poll(cx).is_ready() {
            let begun = streams.begun.load(Ordering::Relaxed);
            let is_idle = begun == was_begun && streams.open.load(Ordering::Relaxed) == 0;
            was_begun = begun;
            match (is_idle, stops) {
                (false, _) => {}
                (true, false) => {
                    stops = true;
                    connection.as_mut().graceful_shutdown();
                    cx.waker().wake_by_ref();
                }
                // A client that has not taken its leave by now.
                (true, true) => return Poll::Ready(Ok(())),
            }
            idle.as_mut().reset(Instant::now() + http2.idle);
        }
        Poll::Pending
    })
    .await?;
    Ok(End::Closed)
}

/// The streams of a connection: each a task, so that one that panics or computes costs the others nothing.
#[derive(Clone, Debug, Default)]
struct Streams {
    stall: Duration,
    ending: CancellationToken,
    begun: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        self.begun.fetch_add(1, Ordering::Relaxed);
        let open = Open::new(self.open.clone());
        let stream = patient(stream, self.stall);
        let ending = self.ending.clone();
        tokio::spawn(async move {
            let _open = open;
            ending.run_until_cancelled_owned(stream).await;
        });
    }
}

/// Counts a stream for as long as it is open.
struct Open(Arc<AtomicUsize>);

impl Open {
    fn new(count: Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
