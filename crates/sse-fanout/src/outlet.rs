//! A viewer's socket: writing all of something, and hearing that the client has left.

use std::io::{self, ErrorKind, IoSlice};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::chunk;

/// What a client may say after its request. It has nothing to say; who says more is cut off.
const MAX_SAID: usize = 16 << 10;

/// A viewer's socket, which speaks HTTP/1.1 chunks.
#[derive(Debug, Clone)]
pub struct Outlet {
    socket: Arc<TcpStream>,
    /// A write that makes no progress for so long fails; none: never.
    stall: Option<Duration>,
}

impl Outlet {
    /// Writes to `socket`. A zero `stall` is none.
    pub fn new(socket: Arc<TcpStream>, stall: Duration) -> Self {
        Self { socket, stall: Some(stall).filter(|stall| !stall.is_zero()) }
    }

    /// The socket.
    pub fn socket(&self) -> &Arc<TcpStream> {
        &self.socket
    }

    /// Writes data as a chunk.
    ///
    /// # Errors
    /// The socket's, and [`ErrorKind::TimedOut`] after a stall.
    pub async fn send(&self, data: &[u8]) -> io::Result<()> {
        let size = chunk::size(data.len());
        let mut slices = [IoSlice::new(size.as_bytes()), IoSlice::new(data), IoSlice::new(b"\r\n")];
        self.write_all(&mut slices).await
    }

    /// Writes what is a chunk, or the rest of one, already.
    ///
    /// # Errors
    /// As [`Outlet::send`].
    pub async fn send_raw(&self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(&mut [IoSlice::new(bytes)]).await
    }

    async fn write_all(&self, mut slices: &mut [IoSlice<'_>]) -> io::Result<()> {
        while slices.iter().any(|slice| !slice.is_empty()) {
            match self.socket.try_write_vectored(slices) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => IoSlice::advance_slices(&mut slices, written),
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.writable().await?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn writable(&self) -> io::Result<()> {
        match self.stall {
            None => self.socket.writable().await,
            Some(stall) => timeout(stall, self.socket.writable()).await?,
        }
    }
}

/// Returns when the client has closed its end or broken off, or says what no viewer has to say.
pub async fn gone(socket: &TcpStream) {
    let mut said = 0;
    while said <= MAX_SAID && socket.readable().await.is_ok() {
        match hear(socket) {
            Ok(0) => return,
            Ok(length) => said += length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

/// Not within the future above, which lives as long as a viewer.
fn hear(socket: &TcpStream) -> io::Result<usize> {
    socket.try_read(&mut [0; 1024])
}
