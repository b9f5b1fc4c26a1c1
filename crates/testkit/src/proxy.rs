//! A network that can be cut: a TCP proxy before a Redis server.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

/// What a TLS connection begins with.
const TLS_HANDSHAKE: [u8; 2] = [0x16, 0x03];

/// What passes and what does not. What is cut is not refused but lost, as in a network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cut {
    /// Between the server and its fellows: replicas, sentinels.
    pub fellows: bool,
    /// What clients send.
    pub from_clients: bool,
    /// What clients are answered.
    pub to_clients: bool,
}

/// A proxy before a server. It tells clients from the server's fellows by their first command: ours
/// begin with HELLO. Where TLS hides it, by the address that they come from: fellows have one of their own.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    cut: watch::Sender<Cut>,
    task: AbortHandle,
}

impl Proxy {
    /// Begins to listen, on a free port, for the server on `server`.
    ///
    /// # Panics
    /// If there is no free port.
    pub async fn start(server: u16) -> Self {
        Self::start_at(("127.0.0.1", 0), ("127.0.0.1", server)).await
    }

    /// The same at an address, for a server at another.
    ///
    /// # Panics
    /// If the address is taken.
    pub async fn start_at(at: (&str, u16), (host, port): (&str, u16)) -> Self {
        let listener = TcpListener::bind(at).await.expect("a free port");
        let server = SocketAddr::new(host.parse().expect("an address"), port);
        let port = listener.local_addr().expect("an address").port();
        let cut = watch::Sender::new(Cut::default());
        let task = tokio::spawn(accept(listener, server, cut.subscribe())).abort_handle();
        Self { port, cut, task }
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Cuts, or mends, from now on.
    pub fn cut(&self, cut: Cut) {
        self.cut.send_replace(cut);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, server: SocketAddr, cut: watch::Receiver<Cut>) {
    // Connections end with the proxy.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    connections.spawn(connect(stream, server, cut.clone()));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connect(client: TcpStream, server: SocketAddr, cut: watch::Receiver<Cut>) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    let is_ours = client.peer_addr()?.ip() == Ipv4Addr::LOCALHOST;
    let (mut from_client, to_client) = client.into_split();
    let mut first = vec![0; 4096];
    let length = from_client.read(&mut first).await?;
    first.truncate(length);
    let is_tls = first.starts_with(&TLS_HANDSHAKE);
    let says_hello = first.windows(5).take(32).any(|window| window.eq_ignore_ascii_case(b"HELLO"));
    let is_client = is_ours && (is_tls || says_hello);
    let is_cut = move |cut: &Cut, up: bool| match (is_client, up) {
        (false, _) => cut.fellows,
        (true, true) => cut.from_clients,
        (true, false) => cut.to_clients,
    };
    let cut_up = Arc::new(move |cut: &Cut| is_cut(cut, true));
    let cut_down = Arc::new(move |cut: &Cut| is_cut(cut, false));
    let mut held = cut.clone();
    // A connection attempt in a cut network hangs.
    let _ = held.wait_for(|cut| !cut_up(cut)).await;
    let server = TcpStream::connect(server).await?;
    server.set_nodelay(true)?;
    let (from_server, mut to_server) = server.into_split();
    to_server.write_all(&first).await?;
    tokio::select! {
        ended = pump(from_client, to_server, cut.clone(), cut_up) => ended,
        ended = pump(from_server, to_client, cut, cut_down) => ended,
    }
}

/// Passes bytes on, and holds them while the way is cut: TCP would send them again later.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut cut: watch::Receiver<Cut>,
    is_cut: Arc<impl Fn(&Cut) -> bool>,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        if cut.wait_for(|cut| !is_cut(cut)).await.is_err() {
            return Ok(());
        }
        to.write_all(&buffer[..length]).await?;
    }
}
