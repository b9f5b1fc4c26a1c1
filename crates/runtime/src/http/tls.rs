//! TLS, with certificates that are replaced on disk while we run.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::{Context, bail};
use serde::Deserialize;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

/// HTTP/2's name in TLS (RFC 9113 §3.2).
pub(super) const H2: &[u8] = b"h2";

/// `[tls]`; the services' `default.toml` explain the options.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml explains each option")]
pub struct TlsConfig {
    pub certificate_file: PathBuf,
    pub key_file: PathBuf,
    pub client_ca_file: PathBuf,
    #[serde(with = "crate::duration")]
    pub check_interval: Duration,
}

/// A server's certificate and key. Clones share them.
#[derive(Clone, Debug)]
pub struct Tls {
    files: TlsConfig,
    http2: bool,
    config: Arc<RwLock<Arc<ServerConfig>>>,
    loaded: Pem,
}

#[derive(Clone, PartialEq, Eq)]
struct Pem {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pem")
    }
}

impl TlsConfig {
    /// Reads the files, and again whenever they have changed; none if none are named. Clients are offered HTTP/1.1
    /// and, if asked for, HTTP/2, which wants [`ServeOptions::http2`](super::ServeOptions::http2).
    ///
    /// # Errors
    /// Only some of them are named, one cannot be read, or what is in it is no certificate or not its key.
    pub fn load(&self, http2: bool) -> anyhow::Result<Option<Tls>> {
        match (given(&self.certificate_file), given(&self.key_file)) {
            (false, false) if given(&self.client_ca_file) => {
                bail!("tls.client_ca_file is set, but not tls.certificate_file and tls.key_file")
            }
            (false, false) => Ok(None),
            (true, true) => Tls::load(self.clone(), http2).map(Some).context("tls"),
            _ => bail!("tls.certificate_file and tls.key_file belong together: set both or none"),
        }
    }
}

impl Tls {
    fn load(files: TlsConfig, http2: bool) -> anyhow::Result<Self> {
        let loaded = Pem::read(&files)?;
        let config = Arc::new(RwLock::new(loaded.config(http2)?));
        Ok(Self { files, http2, config, loaded })
    }

    /// What a new connection is greeted with.
    pub(super) fn config(&self) -> Arc<ServerConfig> {
        self.config.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Follows the files, for as long as it is polled. What cannot be used is told once, and the old certificate
    /// stays: between the writing of one file and of the other they do not fit each other.
    pub(super) async fn follow_files(mut self) {
        loop {
            tokio::time::sleep(self.files.check_interval).await;
            let certificate_file = &self.files.certificate_file;
            // A few kilobytes, now and then.
            let found = match Pem::read(&self.files) {
                Ok(found) => found,
                Err(error) => {
                    let error = format!("{error:#}");
                    tracing::warn!(error, "the certificate cannot be read, the old one stays");
                    continue;
                }
            };
            if found == self.loaded {
                continue;
            }
            match found.config(self.http2) {
                Ok(config) => {
                    *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
                    tracing::info!(?certificate_file, "a new certificate is in use");
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
    fn read(files: &TlsConfig) -> anyhow::Result<Self> {
        let read = |what, path: &Path| {
            std::fs::read(path).with_context(|| format!("{what} {} cannot be read", path.display()))
        };
        let client_ca_file = Some(&files.client_ca_file).filter(|path| given(path));
        Ok(Self {
            certificate: read("the certificate's file", &files.certificate_file)?,
            key: read("the key's file", &files.key_file)?,
            client_ca: client_ca_file
                .map(|path| read("the file of the clients' authorities", path))
                .transpose()?,
        })
    }

    fn config(&self, http2: bool) -> anyhow::Result<Arc<ServerConfig>> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&self.certificate)
            .collect::<Result<_, _>>()
            .context("the certificate's file is no PEM")?;
        if chain.is_empty() {
            bail!("the certificate's file holds no certificate");
        }
        let key = PrivateKeyDer::from_pem_slice(&self.key).context("the key's file holds no key as PEM")?;
        let provider = Arc::new(ring::default_provider());
        let clients = match &self.client_ca {
            Some(pem) => verifier(pem, provider.clone()).context("the clients' authorities")?,
            None => WebPkiClientVerifier::no_client_auth(),
        };
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(clients)
            .with_single_cert(chain, key)
            .context("certificate and key")?;
        config.alpn_protocols =
            if http2 { vec![H2.into(), b"http/1.1".into()] } else { vec![b"http/1.1".into()] };
        // A thousand viewers that come back at once resume, which costs a fraction of a full handshake.
        config.ticketer = ring::Ticketer::new()?;
        Ok(Arc::new(config))
    }
}

/// Lets in whose certificate is of one of these authorities.
fn verifier(pem: &[u8], provider: Arc<CryptoProvider>) -> anyhow::Result<Arc<dyn ClientCertVerifier>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        roots.add(certificate?)?;
    }
    // Of none it says so.
    Ok(WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build()?)
}

fn given(path: &Path) -> bool {
    !path.as_os_str().is_empty()
}
