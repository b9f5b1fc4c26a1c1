//! The sockets of the local API.

use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use runcast_runtime::http::Listener;
use rustix::fs::Mode;
use tokio::net::{TcpListener, UnixListener};

use crate::config::ApiConfig;
use crate::error::Error;

/// Bound sockets. The Unix socket's file goes when this is dropped.
pub(crate) struct Sockets {
    pub(crate) listeners: Vec<Listener>,
    _file: Option<SocketFile>,
}

struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Binds what is configured.
pub(crate) async fn bind(config: &ApiConfig) -> Result<Sockets, Error> {
    let mut sockets = Sockets { listeners: Vec::new(), _file: None };
    if let Some(address) = config.listen {
        let fail = |source| Error::Listen { key: "api.listen", address: address.to_string(), source };
        let listener = TcpListener::bind(address).await.map_err(fail)?;
        tracing::info!(address = %listener.local_addr().map_err(fail)?, "api listens");
        sockets.listeners.push(listener.into());
    }
    if let Some(path) = &config.socket {
        let fail = |source| Error::Listen { key: "api.socket", address: path.display().to_string(), source };
        sockets.listeners.push(bind_unix(path).map_err(fail)?.into());
        sockets._file = Some(SocketFile(path.clone()));
        tracing::info!(socket = %path.display(), "api listens");
    }
    if sockets.listeners.is_empty() { Err(Error::NowhereToListen) } else { Ok(sockets) }
}

fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    if is_socket {
        // One on which nobody answers was left behind by a process that was killed.
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        std::fs::remove_file(path)?;
    }
    // Before it exists, or there would be a moment in which others can connect.
    let before = rustix::process::umask(Mode::from_raw_mode(0o177));
    let listener = UnixListener::bind(path);
    rustix::process::umask(before);
    listener
}
