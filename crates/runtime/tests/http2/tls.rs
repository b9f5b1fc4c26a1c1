//! TLS: which protocols it offers, certificates that change, handshakes that do not come.

use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertificateParams, CertifiedKey, KeyPair};
use runcast_runtime::http::{ServeOptions, Tls, TlsConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{SOON, Server, get, http2, server, speak, stopped, text};

struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        let files = Self { folder: tempfile::tempdir().unwrap() };
        files.renew();
        files
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn renew(&self) {
        let signing_key = KeyPair::generate().unwrap();
        let cert =
            CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&signing_key).unwrap();
        let CertifiedKey { cert, signing_key } = CertifiedKey { cert, signing_key };
        // In the order that leaves a certificate without its key for a moment.
        std::fs::write(self.path("cert.pem"), cert.pem()).unwrap();
        std::fs::write(self.path("key.pem"), signing_key.serialize_pem()).unwrap();
    }

    fn tls(&self) -> anyhow::Result<Tls> {
        let (certificate_file, key_file) = (self.path("cert.pem"), self.path("key.pem"));
        let check_interval = Duration::from_millis(50);
        let files = TlsConfig { certificate_file, key_file, client_ca_file: "".into(), check_interval };
        files.load(true).map(Option::unwrap)
    }

    async fn connect(&self, server: &Server, protocols: &[&str]) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.path("cert.pem")).unwrap()).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let stream = TcpStream::connect(server.address).await.unwrap();
        TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").unwrap(), stream).await
    }
}

#[tokio::test]
async fn tls_offers_both_protocols() {
    let files = Files::new();
    let server = server(ServeOptions { tls: Some(files.tls().unwrap()), ..http2() }).await;
    let client = speak(files.connect(&server, &["h2", "http/1.1"]).await.unwrap()).await;
    assert_eq!(text(get(&client, "/").await).await, "127.0.0.1");
    for offered in [&["http/1.1"][..], &[]] {
        let mut client = files.connect(&server, offered).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    drop(client);
    stopped(server).await;
}

#[tokio::test]
async fn a_certificate_that_changes_on_disk_is_taken_up() {
    let files = Files::new();
    let server = server(ServeOptions { tls: Some(files.tls().unwrap()), ..http2() }).await;
    let old = speak(files.connect(&server, &["h2"]).await.unwrap()).await;
    files.renew();
    let renewed = async { while files.connect(&server, &["h2"]).await.is_err() {} };
    timeout(SOON, renewed).await.expect("the new certificate");
    assert_eq!(text(get(&old, "/").await).await, "127.0.0.1", "who is connected stays");
    // What cannot be used is not taken up.
    let good = std::fs::read(files.path("cert.pem")).unwrap();
    std::fs::write(files.path("cert.pem"), "nonsense").unwrap();
    assert!(files.tls().is_err());
    std::fs::write(files.path("cert.pem"), good).unwrap();
    files.connect(&server, &["h2"]).await.unwrap();
}

#[tokio::test]
async fn a_handshake_that_does_not_come_is_not_waited_for() {
    let tls = Some(Files::new().tls().unwrap());
    let server = server(ServeOptions { tls, header_timeout: Duration::from_millis(100), ..http2() }).await;
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    assert_eq!(timeout(SOON, silent.read(&mut [0; 8])).await.unwrap().unwrap_or(0), 0);
}
