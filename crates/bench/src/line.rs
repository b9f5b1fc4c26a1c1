//! A viewer's connection, with or without TLS.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// A connection to a server on loopback.
#[derive(Debug)]
pub enum Line {
    /// As it is.
    Plain(TcpStream),
    /// TLS 1.3, with a full handshake each.
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Line {
    /// Connects. The handshake, if there is one, is had with what is first written.
    ///
    /// # Errors
    /// If nobody listens there.
    pub fn connect(port: u16, tls: Option<&Arc<ClientConfig>>) -> anyhow::Result<Self> {
        let socket = TcpStream::connect(("127.0.0.1", port)).context("a viewer cannot connect")?;
        let Some(tls) = tls else { return Ok(Self::Plain(socket)) };
        let connection = ClientConnection::new(tls.clone(), ServerName::try_from("localhost")?)?;
        Ok(Self::Tls(Box::new(StreamOwned::new(connection, socket))))
    }

    /// From now on who reads does not wait.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn set_nonblocking(&self) -> io::Result<()> {
        self.socket().set_nonblocking(true)
    }

    fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => &stream.sock,
        }
    }
}

/// What trusts the authority in that PEM file. No sessions are resumed: viewers are strangers to each other.
///
/// # Errors
/// If it cannot be read.
pub fn trusting(authority: &Path) -> anyhow::Result<Arc<ClientConfig>> {
    // Who was first has installed the same one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority)?)?;
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}

impl Read for Line {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

impl AsFd for Line {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket().as_fd()
    }
}
