//! An authority of one's own, and a certificate for loopback.

use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;

/// An authority, and a server certificate that it signed for 127.0.0.1 and localhost.
#[derive(Debug)]
pub struct Authority {
    folder: TempDir,
}

impl Authority {
    /// Makes both.
    ///
    /// # Panics
    /// If they cannot be made.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        // Not that of the certificates it signs: OpenSSL would take them for self-signed.
        params.distinguished_name.push(DnType::CommonName, "test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let authority = CertifiedIssuer::self_signed(params, key).expect("an authority");
        let key = KeyPair::generate().expect("a key");
        let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
        let server = CertificateParams::new(names)
            .expect("parameters")
            .signed_by(&key, &authority)
            .expect("a certificate");
        let made = Self { folder };
        for (path, text) in [
            (made.ca_file(), authority.pem()),
            (made.cert_file(), server.pem()),
            (made.key_file(), key.serialize_pem()),
        ] {
            std::fs::write(path, text).expect("a PEM file");
        }
        made
    }

    /// PEM file of the authority.
    pub fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// PEM file of the server's certificate.
    pub fn cert_file(&self) -> PathBuf {
        self.folder.path().join("server.pem")
    }

    /// PEM file of the server's key.
    pub fn key_file(&self) -> PathBuf {
        self.folder.path().join("server.key")
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}
