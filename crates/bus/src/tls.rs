//! TLS to Redis: whom to trust, and who we are.

use std::fmt;
use std::sync::Arc;

use fred::rustls::pki_types::pem::PemObject;
use fred::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use fred::rustls::{ClientConfig, RootCertStore};
use fred::types::config::TlsConnector;

use crate::BusError;

/// TLS that trusts the authorities of a PEM file and no others (the system's if there is no file), and shows a
/// certificate of its own to servers that ask for one. The server's name is checked against its certificate.
pub(crate) fn connector(ca_file: &str, cert_file: &str, key_file: &str) -> Result<TlsConnector, BusError> {
    let provider = Arc::new(fred::rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| fail("ca_file", ca_file, &error))?
        .with_root_certificates(roots(ca_file)?);
    let config = match (cert_file, key_file) {
        ("", "") => builder.with_no_client_auth(),
        ("", _) | (_, "") => {
            let why = "redis.cert_file and redis.key_file belong together: set both or none";
            return Err(BusError::Config(why.into()));
        }
        _ => {
            let key = PrivateKeyDer::from_pem_file(key_file);
            let key = key.map_err(|error| fail("key_file", key_file, &error))?;
            let chain = certificates("cert_file", cert_file)?;
            builder.with_client_auth_cert(chain, key).map_err(|error| fail("cert_file", cert_file, &error))?
        }
    };
    Ok(config.into())
}

fn roots(file: &str) -> Result<RootCertStore, BusError> {
    let mut roots = RootCertStore::empty();
    if file.is_empty() {
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        return Ok(roots);
    }
    for certificate in certificates("ca_file", file)? {
        roots.add(certificate).map_err(|error| fail("ca_file", file, &error))?;
    }
    Ok(roots)
}

fn certificates(name: &str, file: &str) -> Result<Vec<CertificateDer<'static>>, BusError> {
    let found = CertificateDer::pem_file_iter(file).and_then(Iterator::collect);
    let found: Vec<_> = found.map_err(|error| fail(name, file, &error))?;
    if found.is_empty() {
        return Err(fail(name, file, &"holds no certificate"));
    }
    Ok(found)
}

fn fail(name: &str, file: &str, why: &dyn fmt::Display) -> BusError {
    BusError::Config(format!("redis.{name} {file:?}: {why}"))
}
