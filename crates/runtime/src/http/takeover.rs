//! Answers that go on without HTTP: whoever gave them has the socket to itself.
//!
//! A connection that only ever writes the same few bytes to many needs none of what an HTTP
//! implementation keeps for each: buffers, a timer, a place in the state machine.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use futures_util::future::BoxFuture;
use http::{Response, header};
use tokio::net::TcpStream;

use super::{Body, clients::Place};

/// Stands among the extensions of a request whose answer may be a [`Takeover`]: HTTP/1.1 over plain TCP.
#[derive(Clone, Copy, Debug)]
pub struct CanTakeOver;

/// Stands among the extensions of a response whose sender wants the socket: once the taker is ready, the response's
/// head goes out with `Transfer-Encoding: chunked` and `Connection: close`, its body is dropped, and then the
/// socket is the taker's, who writes chunks and closes it. What the client sends is the taker's to read.
#[derive(Clone)]
pub struct Takeover(Arc<Mutex<Option<BoxFuture<'static, Then>>>>);

type Then = Box<dyn FnOnce(Arc<TcpStream>) -> BoxFuture<'static, ()> + Send>;

impl Takeover {
    /// Has `then` go on with the socket, and with what `ready` gives, once that is there and the head is sent. While
    /// `ready` is waited for, what HTTP needs is no longer held.
    pub fn new<R, F>(
        ready: impl Future<Output = R> + Send + 'static,
        then: impl FnOnce(R, Arc<TcpStream>) -> F + Send + 'static,
    ) -> Self
    where
        R: Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let ready = async move {
            let ready = ready.await;
            Box::new(move |socket| Box::pin(then(ready, socket)) as BoxFuture<'static, ()>) as Then
        };
        Self(Arc::new(Mutex::new(Some(Box::pin(ready)))))
    }

    fn take(&self) -> Option<BoxFuture<'static, Then>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl fmt::Debug for Takeover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Takeover")
    }
}

/// Where a connection finds that an answer has taken it over.
#[derive(Clone, Debug, Default)]
pub(super) struct Desk(Arc<Mutex<Option<Taken>>>);

#[derive(Debug)]
struct Taken {
    takeover: Takeover,
    /// What the client gets first.
    head: Vec<u8>,
    place: Place,
}

impl Desk {
    /// Lays a takeover here if the response is one; else gives the client's place back.
    pub(super) fn offer(&self, response: &mut Response<Body>, place: Place) -> Option<Place> {
        let Some(takeover) = response.extensions_mut().remove::<Takeover>() else { return Some(place) };
        *self.lock() = Some(Taken { takeover, head: head(response), place });
        None
    }

    pub(super) fn is_taken(&self) -> bool {
        self.lock().is_some()
    }

    /// Sends the head and has the taker go on; returns when that is through with the socket.
    pub(super) async fn go_on(self, socket: Arc<TcpStream>) -> io::Result<()> {
        let Some(Taken { takeover, head, place: _place }) = self.lock().take() else { return Ok(()) };
        let Some(ready) = takeover.take() else { return Ok(()) };
        drop(takeover);
        let then = ready.await;
        let mut rest = &*head;
        while !rest.is_empty() {
            socket.writable().await?;
            match socket.try_write(rest) {
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        drop(head);
        let going_on = then(socket);
        going_on.await;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Option<Taken>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A response's head as HTTP/1.1 has it (RFC 9112 §4 to §6).
fn head(response: &Response<Body>) -> Vec<u8> {
    let status = response.status();
    let reason = status.canonical_reason().unwrap_or("");
    let mut head = format!("HTTP/1.1 {} {reason}\r\n", status.as_str()).into_bytes();
    for (name, value) in response.headers() {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    if !response.headers().contains_key(header::DATE) {
        head.extend_from_slice(
            format!("date: {}\r\n", httpdate::fmt_http_date(SystemTime::now())).as_bytes(),
        );
    }
    head.extend_from_slice(b"connection: close\r\ntransfer-encoding: chunked\r\n\r\n");
    head
}
