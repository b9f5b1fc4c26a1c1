//! TLS, with certificates that are replaced on disk while we run.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::{Context, bail};
use serde::Deserialize;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// HTTP/2's name in TLS (RFC 9113 §3.2).
pub(super) const H2: &[u8] = b"h2";

/// `[tls]`; the services' `default.toml` explain the options.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml explains each option")]
pub struct TlsConfig {
    pub certificate_file: PathBuf,
    pub key_file: PathBuf,
    #[serde(with = "crate::duration")]
    pub check_interval: Duration,
}

impl TlsConfig {
    /// Reads the files; none if none are named. Clients are offered HTTP/2 as well if asked for.
    ///
    /// # Errors
    /// As [`Tls::load`], or if only one of them is named.
    pub fn load(&self, http2: bool) -> anyhow::Result<Option<Tls>> {
        let given = |path: &Path| !path.as_os_str().is_empty();
        match (given(&self.certificate_file), given(&self.key_file)) {
            (false, false) => Ok(None),
            (true, true) => Tls::load(&self.certificate_file, &self.key_file, self.check_interval, http2)
                .map(Some)
                .context("tls"),
            _ => bail!("tls.certificate_file and tls.key_file belong together: set both or none"),
        }
    }
}

/// A server's certificate and key. Clones share them.
#[derive(Clone, Debug)]
pub struct Tls {
    certificate_file: PathBuf,
    key_file: PathBuf,
    check_interval: Duration,
    http2: bool,
    config: Arc<RwLock<Arc<ServerConfig>>>,
    loaded: Pem,
}

#[derive(Clone, PartialEq, Eq)]
struct Pem {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pem")
    }
}

impl Tls {
    /// Reads the PEM files, and again whenever they have changed; looked at every `check_interval`. Clients are
    /// offered HTTP/1.1 and, if asked for, HTTP/2, which wants [`ServeOptions::http2`](super::ServeOptions::http2).
    ///
    /// # Errors
    /// A file cannot be read, or what is in it is no certificate or not its key.
    pub fn load(
        certificate_file: &Path,
        key_file: &Path,
        check_interval: Duration,
        http2: bool,
    ) -> anyhow::Result<Self> {
        let read = |what, path: &Path| {
            std::fs::read(path).with_context(|| format!("{what} {} cannot be read", path.display()))
        };
        let loaded = Pem {
            certificate: read("the certificate's file", certificate_file)?,
            key: read("the key's file", key_file)?,
        };
        Ok(Self {
            certificate_file: certificate_file.to_owned(),
            key_file: key_file.to_owned(),
            check_interval,
            http2,
            config: Arc::new(RwLock::new(loaded.config(http2)?)),
            loaded,
        })
    }

    /// What a new connection is greeted with.
    pub(super) fn config(&self) -> Arc<ServerConfig> {
        self.config.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Follows the files, for as long as it is polled. What cannot be used is told once, and the old certificate
    /// stays: between the writing of one file and of the other they do not fit each other.
    pub(super) async fn follow_files(mut self) {
        loop {
            tokio::time::sleep(self.check_interval).await;
            let certificate = tokio::fs::read(&self.certificate_file).await;
            let (Ok(certificate), Ok(key)) = (certificate, tokio::fs::read(&self.key_file).await) else {
                tracing::warn!(certificate_file = ?self.certificate_file, "the certificate cannot be read, the old one stays");
                continue;
            };
            let found = Pem { certificate, key };
            if found == self.loaded {
                continue;
            }
            match found.config(self.http2) {
                Ok(config) => {
                    *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
                    tracing::info!(certificate_file = ?self.certificate_file, "a new certificate is in use");
                }
                Err(error) => {
                    tracing::warn!(
                        error = format!("{error:#}"),
                        "a new certificate cannot be used, the old one stays"
                    );
                }
            }
            self.loaded = found;
        }
    }
}

impl Pem {
    fn config(&self, http2: bool) -> anyhow::Result<Arc<ServerConfig>> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&self.certificate)
            .collect::<Result<_, _>>()
            .context("the certificate's file is no PEM")?;
        if chain.is_empty() {
            bail!("the certificate's file holds no certificate");
        }
        let key = PrivateKeyDer::from_pem_slice(&self.key).context("the key's file holds no key as PEM")?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .context("certificate and key")?;
        config.alpn_protocols =
            if http2 { vec![H2.into(), b"http/1.1".into()] } else { vec![b"http/1.1".into()] };
        // A thousand viewers that come back at once resume, which costs a fraction of a full handshake.
        config.ticketer = ring::Ticketer::new()?;
        Ok(Arc::new(config))
    }
}
