//! A connection that speaks HTTP/1.1.

use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::pin::pin;
use std::task::Poll;

use hyper::body::Incoming;
use hyper::header::UPGRADE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, Version};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use super::clients::{Place, admit};
use super::connection::Context;
use super::patience::held;
use super::socket::Socket;
use super::takeover::Desk;
use super::upgrade::Switch;
use super::{Body, CanTakeOver, guard};

/// What a connection may hold of a request's head, and of an answer not yet written, in bytes.
const MAX_BUFFER: usize = 64 * 1024;

/// How HTTP's part of a connection ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    Closed,
    /// An answer takes the socket over.
    Taken,
}

/// Answers requests until the connection ends or an answer takes it over.
pub(super) async fn speak_http1<I, S, F>(
    stream: I,
    service: S,
    context: Context,
    takes_over: Option<(&Desk, &Socket)>,
) -> anyhow::Result<End>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Fn(Request<Incoming>) -> F,
    F: Future<Output = Response<Body>>,
{
    let Context { options, shutdown, visit } = context;
    let switch = Switch::default();
    let switching = &switch;
    let answering = service_fn(move |mut request: Request<Incoming>| {
        let is_get = request.version() == Version::HTTP_11 && request.method() == Method::GET;
        let desk = takes_over.map(|(desk, _)| desk).filter(|_| is_get);
        let wants_upgrade = is_get && request.headers().contains_key(UPGRADE);
        let upgrade = wants_upgrade.then(|| hyper::upgrade::on(&mut request));
        if desk.is_some() && !wants_upgrade {
            request.extensions_mut().insert(CanTakeOver);
        }
        let answer = admit(visit.as_ref(), &mut request, true).map(|place| (place, service(request)));
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
            let place = match upgrade {
                Some(on) => switching.offer(on, &mut response, place),
                None => Some(place),
            };
            let place = match (place, desk) {
                (Some(place), Some(desk)) => match desk.offer(&mut response, place) {
                    // Whoever polls the connection sees it, and drops this.
                    None => pending::<Option<Place>>().await,
                    place => place,
                },
                (place, _) => place,
            };
            Ok::<_, Infallible>(response.map(|body| held(body, place)))
        }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(options.header_timeout)
            .max_buf_size(MAX_BUFFER)
            // A client that is gone must end its answer, or an idle stream would be kept for nobody.
            .half_close(false)
            .serve_connection(TokioIo::new(stream), answering)
            .with_upgrades()
    );
    let mut stopping = pin!(shutdown.triggered());
    let mut stops = false;
    let end = poll_fn(|cx| {
        if !stops && stopping.as_mut().poll(cx).is_ready() {
            stops = true;
            connection.as_mut().graceful_shutdown();
        }
        match connection.as_mut().poll(cx) {
            Poll::Ready(ended) => Poll::Ready(ended.map(|()| End::Closed)),
            // Not before what was answered to earlier requests has gone out.
            Poll::Pending
                if takes_over.is_some_and(|(desk, socket)| desk.is_taken() && !socket.is_full()) =>
            {
                Poll::Ready(Ok(End::Taken))
            }
            Poll::Pending => Poll::Pending,
        }
    })
    .await?;
    if end == End::Closed {
        switch.go_on().await?;
    }
    Ok(end)
}
