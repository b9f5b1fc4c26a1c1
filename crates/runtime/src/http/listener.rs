//! Where connections come from: TCP or a Unix socket.

use std::io;
use std::net::IpAddr;

use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio_util::either::Either;

use super::socket::Socket;

/// A bound socket.
#[derive(Debug)]
pub enum Listener {
    /// TCP, with `TCP_NODELAY` set on every connection.
    Tcp(TcpListener),
    /// A Unix socket. Its file is the caller's to remove.
    Unix(UnixListener),
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Listener {
        Listener::Tcp(listener)
    }
}

impl From<UnixListener> for Listener {
    fn from(listener: UnixListener) -> Listener {
        Listener::Unix(listener)
    }
}

impl Listener {
    pub(super) async fn accept(&self) -> io::Result<Either<(Socket, IpAddr), UnixStream>> {
        match self {
            Listener::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                // Refused only by a socket that is closed already, which the first read will tell.
                let _ = stream.set_nodelay(true);
                Ok(Either::Left((Socket::new(stream), peer.ip())))
            }
            Listener::Unix(listener) => Ok(Either::Right(listener.accept().await?.0)),
        }
    }
}
