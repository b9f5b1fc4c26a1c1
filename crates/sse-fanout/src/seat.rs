//! A viewer that sits: level with its view's ring, nothing pending. It costs a place in a
//! [`Row`](crate::row::Row) and a task that sleeps until the client leaves.

use std::io::{self, ErrorKind};
use std::sync::Arc;

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use crate::ring_reader::RingReader;
use crate::row::Row;
use crate::view::View;

/// A place in a row: what the row needs to write to a viewer.
#[derive(Debug)]
pub struct Seat {
    socket: Arc<TcpStream>,
    rise: oneshot::Sender<Box<Risen>>,
}

/// A viewer that had to get up: its socket is full, or the view has nothing more for it.
#[derive(Debug)]
pub struct Risen {
    /// Where it reads on, once `rest` is sent.
    pub reader: RingReader,
    /// Of what was begun, what the socket did not take.
    pub rest: Bytes,
}

/// What a viewer holds while it sits. Dropping it leaves the seat.
#[derive(Debug)]
pub struct Seated {
    risen: oneshot::Receiver<Box<Risen>>,
    row: Arc<Row>,
    view: Arc<View>,
}

impl Seat {
    /// A seat that writes to `socket`, and how its viewer hears of having to get up.
    pub(crate) fn new(socket: Arc<TcpStream>) -> (Self, oneshot::Receiver<Box<Risen>>) {
        let (rise, risen) = oneshot::channel();
        (Self { socket, rise }, risen)
    }

    /// Whether the viewer has left.
    pub(crate) fn is_left(&self) -> bool {
        self.rise.is_closed()
    }

    /// Whether it is the seat of who is at `socket`.
    pub(crate) fn writes_to(&self, socket: &Arc<TcpStream>) -> bool {
        Arc::ptr_eq(&self.socket, socket)
    }

    /// Writes as much as the socket takes at once.
    ///
    /// # Errors
    /// The socket's: the viewer is gone.
    pub(crate) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self.socket.try_write(bytes) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
            written => written,
        }
    }

    /// Has the viewer get up.
    pub(crate) fn rise(self, reader: RingReader, rest: Bytes) {
        // Who has left meanwhile needs nothing.
        let _ = self.rise.send(Box::new(Risen { reader, rest }));
    }
}

impl Seated {
    pub(crate) fn new(risen: oneshot::Receiver<Box<Risen>>, row: Arc<Row>, view: Arc<View>) -> Self {
        Self { risen, row, view }
    }

    /// Waits until the viewer has to get up; none if its connection is broken. Can be cancelled.
    pub async fn risen(&mut self) -> Option<Box<Risen>> {
        (&mut self.risen).await.ok()
    }

    /// Gets up by itself, from the seat that writes to `socket`; none if its connection is broken.
    pub async fn get_up(&mut self, socket: &Arc<TcpStream>) -> Option<Box<Risen>> {
        self.row.call(&self.view, socket);
        self.risen().await
    }
}

impl Drop for Seated {
    fn drop(&mut self) {
        self.risen.close();
        self.row.leave(&self.view);
    }
}
