//! The accept loop with clients that speak HTTP/2, TLS, or another protocol after HTTP.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2::SendRequest;
use hyper::{Request, Response, StatusCode, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{CertificateParams, CertifiedKey, KeyPair};
use runcast_runtime::Shutdown;
use runcast_runtime::http::{
    Body, CanTakeOver, ClientAddress, ClientHeader, Http2Options, Proxies, ServeOptions, Tls, TlsConfig,
    Upgrade, empty, full, problem, serve,
};
use runcast_runtime::rates::Rate;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};
use tokio_rustls::{TlsConnector, client::TlsStream};

const SOON: Duration = Duration::from_secs(5);

struct Server {
    address: SocketAddr,
    shutdown: Shutdown,
    /// Lets `/slow` answer, once for each permit.
    ready: Arc<Semaphore>,
    task: JoinHandle<()>,
}

fn http2() -> ServeOptions {
    ServeOptions { http2: Some(Http2Options::default()), ..ServeOptions::default() }
}

async fn server(options: ServeOptions) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (shutdown, ready) = (Shutdown::new(), Arc::new(Semaphore::new(0)));
    let may_answer = ready.clone();
    let service = move |request: Request<_>| {
        let may_answer = may_answer.clone();
        async move { answer(&request, &may_answer).await }
    };
    let task = tokio::spawn(serve(listener, service, options, shutdown.clone()));
    Server { address, shutdown, ready, task }
}

async fn answer(request: &Request<Incoming>, may_answer: &Semaphore) -> Response<Body> {
    match request.uri().path() {
        "/slow" => {
            may_answer.acquire().await.unwrap().forget();
            Response::new(full("slow but sure"))
        }
        "/endless" => {
            let chunks =
                futures_util::stream::repeat_with(|| Ok(Frame::data(Bytes::from_static(&[b'x'; 64 * 1024]))));
            Response::new(StreamBody::new(chunks).boxed_unsync())
        }
        "/panic" => panic!("as asked"),
        "/missing" => problem(StatusCode::NOT_FOUND, "there is no such thing"),
        "/echo" => {
            let mut response = Response::new(empty());
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            response.headers_mut().insert("connection", "upgrade".parse().unwrap());
            response.headers_mut().insert("upgrade", "echo".parse().unwrap());
            response.extensions_mut().insert(Upgrade::new(|io| async move {
                let (mut from, mut to) = tokio::io::split(io);
                tokio::io::copy(&mut from, &mut to).await.unwrap();
            }));
            response
        }
        _ => {
            let client = request.extensions().get::<ClientAddress>().unwrap().0;
            let is_http1 = request.version() == Version::HTTP_11;
            let can_take_over = request.extensions().get::<CanTakeOver>().is_some();
            assert!(is_http1 || !can_take_over, "a stream of many has no socket to give");
            Response::new(full(client.to_string()))
        }
    }
}

async fn speak<I>(stream: I) -> SendRequest<Empty<Bytes>>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(128 * 1024)
        .initial_connection_window_size(64 * 1024 * 1024)
        .handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    sender
}

impl Server {
    async fn connect(&self) -> SendRequest<Empty<Bytes>> {
        speak(TcpStream::connect(self.address).await.unwrap()).await
    }
}

type Answer = hyper::Result<Response<Incoming>>;

fn get(client: &SendRequest<Empty<Bytes>>, path: &str) -> impl Future<Output = Answer> + use<> {
    get_for(client, path, None)
}

fn get_for(
    client: &SendRequest<Empty<Bytes>>,
    path: &str,
    forwarded_for: Option<&str>,
) -> impl Future<Output = Answer> + use<> {
    let mut request = Request::get(format!("http://x{path}"));
    if let Some(client) = forwarded_for {
        request = request.header("x-forwarded-for", client);
    }
    let mut client = client.clone();
    async move {
        timeout(SOON, client.send_request(request.body(Empty::new()).unwrap())).await.expect("an answer")
    }
}

async fn text(answer: Answer) -> String {
    let body = timeout(SOON, answer.unwrap().into_body().collect()).await.unwrap().unwrap();
    String::from_utf8(body.to_bytes().to_vec()).unwrap()
}

async fn stopped(server: Server) {
    server.shutdown.trigger();
    timeout(SOON, server.task).await.expect("the server stops").unwrap();
}

#[tokio::test]
async fn a_hundred_streams_share_a_connection() {
    let server = server(http2()).await;
    let client = server.connect().await;
    let mut bodies = Vec::new();
    for _ in 0..100 {
        let answer = get(&client, "/endless").await.unwrap();
        assert_eq!(answer.version(), Version::HTTP_2);
        bodies.push(answer.into_body());
    }
    for body in &mut bodies {
        let mut seen = 0;
        while seen < 256 * 1024 {
            let frame = timeout(SOON, body.frame()).await.unwrap().unwrap().unwrap();
            seen += frame.into_data().unwrap().len();
        }
    }
    assert_eq!(text(get(&client, "/").await).await, "127.0.0.1");
}

#[tokio::test]
async fn the_same_port_speaks_http_1() {
    let server = server(http2()).await;
    for request in [
        &b"PUT / HTTP/1.1\r\nhost: x\r\n\r\n"[..],
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n",
    ] {
        let mut client = TcpStream::connect(server.address).await.unwrap();
        let mut head = [0; 12];
        // Torn where it could still be either.
        client.write_all(&request[..1]).await.unwrap();
        client.write_all(&request[1..]).await.unwrap();
        timeout(SOON, client.read_exact(&mut head)).await.unwrap().unwrap();
        assert_eq!(&head, b"HTTP/1.1 200");
    }
}

#[tokio::test]
async fn browsers_are_not_to_guess_and_caches_not_to_keep_refusals() {
    let server = server(http2()).await;
    let client = server.connect().await;
    for (path, kept) in [("/", None), ("/missing", Some("no-store"))] {
        let answer = get(&client, path).await.unwrap();
        assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
        assert_eq!(answer.headers().get("cache-control").map(|value| value.to_str().unwrap()), kept);

        let mut http1 = TcpStream::connect(server.address).await.unwrap();
        http1
            .write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let mut seen = String::new();
        timeout(SOON, http1.read_to_string(&mut seen)).await.unwrap().unwrap();
        assert!(seen.contains("\r\nx-content-type-options: nosniff\r\n"), "{seen}");
        assert_eq!(seen.contains("\r\ncache-control: no-store\r\n"), kept.is_some(), "{seen}");
    }
}

#[tokio::test]
async fn a_stalled_stream_is_reset_and_the_others_go_on() {
    let stall = Duration::from_millis(300);
    let server = server(ServeOptions { write_stall: stall, ..http2() }).await;
    let client = server.connect().await;
    let mut stalled = get(&client, "/endless").await.unwrap().into_body();
    let mut reading = get(&client, "/endless").await.unwrap().into_body();
    let waiting = tokio::spawn(get(&client, "/slow"));
    // The one that is read goes on for far longer than a stall.
    let until = tokio::time::Instant::now() + 4 * stall;
    while tokio::time::Instant::now() < until {
        timeout(SOON, reading.frame()).await.unwrap().unwrap().unwrap();
    }
    let reset = loop {
        if let Err(error) = timeout(SOON, stalled.frame()).await.unwrap().unwrap() {
            break error;
        }
    };
    assert!(format!("{reset:?}").contains("CANCEL"), "{reset:?}");
    // Who waits for us is not stalled.
    server.ready.add_permits(1);
    assert_eq!(text(waiting.await.unwrap()).await, "slow but sure");
}

#[tokio::test]
async fn shutdown_lets_streams_finish_and_takes_no_new_ones() {
    let server = server(http2()).await;
    let client = server.connect().await;
    let slow = tokio::spawn(get(&client, "/slow"));
    // Answered after it, so that the first is known to have come.
    text(get(&client, "/").await).await;
    server.shutdown.trigger();
    let refused = async { while get(&client, "/").await.is_ok() {} };
    timeout(SOON, refused).await.expect("GOAWAY");
    server.ready.add_permits(1);
    assert_eq!(text(slow.await.unwrap()).await, "slow but sure");
    stopped(server).await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_a_busy_one_is_not() {
    let idle = Duration::from_millis(100);
    let options = Http2Options { idle, ..Http2Options::default() };
    let server = server(ServeOptions { header_timeout: idle, http2: Some(options), ..http2() }).await;
    let (idle, busy) = (server.connect().await, server.connect().await);
    let slow = tokio::spawn(get(&busy, "/slow"));
    text(get(&idle, "/").await).await;
    let closed = async {
        while !idle.is_closed() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(SOON, closed).await.expect("closed");
    // One that says nothing is gone as well.
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    assert_eq!(timeout(SOON, silent.read(&mut [0; 8])).await.unwrap().unwrap_or(0), 0);
    server.ready.add_permits(1);
    assert_eq!(text(slow.await.unwrap()).await, "slow but sure");
}

#[tokio::test]
async fn a_panic_costs_its_own_stream_only() {
    let server = server(http2()).await;
    let client = server.connect().await;
    let slow = tokio::spawn(get(&client, "/slow"));
    assert!(get(&client, "/panic").await.is_err());
    server.ready.add_permits(1);
    assert_eq!(text(slow.await.unwrap()).await, "slow but sure");
}

#[tokio::test]
async fn a_client_has_its_share_of_connections() {
    let server = server(ServeOptions { max_connections_per_client: 2, ..ServeOptions::default() }).await;
    let connect = async || {
        let mut client = TcpStream::connect(server.address).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let is_served = timeout(SOON, client.read(&mut [0; 8])).await.unwrap().unwrap_or(0) > 0;
        is_served.then_some(client)
    };
    let (first, _second) = (connect().await.unwrap(), connect().await.unwrap());
    assert!(connect().await.is_none());
    drop(first);
    let again = async { while connect().await.is_none() {} };
    timeout(SOON, again).await.expect("one left, one may come");
}

#[tokio::test]
async fn streams_count_for_whom_a_trusted_proxy_names() {
    let proxies = Proxies::parse("127.0.0.1", ClientHeader::XForwardedFor).unwrap();
    let server = server(ServeOptions { max_connections_per_client: 2, proxies, ..http2() }).await;
    let (proxy, other) = (server.connect().await, server.connect().await);
    let one = Some("1.2.3.4, 198.51.100.1");
    let first = get_for(&proxy, "/endless", one).await.unwrap();
    let _second = get_for(&other, "/endless", one).await.unwrap();
    let refused = get_for(&proxy, "/endless", one).await.unwrap();
    assert_eq!(refused.status(), 429);
    assert_eq!(refused.headers()["retry-after"], "5");
    assert_eq!(refused.headers()["content-type"], "application/problem+json");
    let elsewhere = get_for(&proxy, "/", Some("198.51.100.1, 198.51.100.2")).await;
    assert_eq!(text(elsewhere).await, "198.51.100.2");
    drop(first);
    let again = async { while get_for(&proxy, "/", one).await.unwrap().status() != 200 {} };
    timeout(SOON, again).await.expect("one ended, one may begin");
}

#[tokio::test]
async fn requests_come_at_a_rate_for_whom_a_trusted_proxy_names() {
    let proxies = Proxies::parse("127.0.0.1", ClientHeader::XForwardedFor).unwrap();
    let requests_per_client = Rate { per_second: 1, burst: 3.try_into().unwrap() };
    let server = server(ServeOptions { requests_per_client, proxies, ..http2() }).await;
    let proxy = server.connect().await;
    let one = Some("198.51.100.1");
    let mut answers = Vec::new();
    // The fourth comes within a second of the first, unless the machine stood still.
    while !answers.contains(&429) {
        let answer = get_for(&proxy, "/", one).await.unwrap();
        answers.push(answer.status().as_u16());
        if answer.status() == 429 {
            assert_eq!(answer.headers()["retry-after"], "1");
            assert_eq!(answer.headers()["cache-control"], "no-store");
            assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
            assert!(text(Ok(answer)).await.contains("too many requests from your address"));
        }
    }
    assert!(answers.len() > 3, "{answers:?}");
    assert_eq!(get_for(&proxy, "/", Some("198.51.100.2")).await.unwrap().status(), 200);
    // Whether it is well, the proxy may ask as often as it likes.
    for _ in 0..10 {
        assert_eq!(get(&proxy, "/").await.unwrap().status(), 200);
    }
    let back = async { while get_for(&proxy, "/", one).await.unwrap().status() != 200 {} };
    timeout(SOON, back).await.expect("a second later");
}

#[tokio::test]
async fn connections_come_at_twice_the_rate_of_requests() {
    let requests_per_client = Rate { per_second: 1, burst: 2.try_into().unwrap() };
    let server = server(ServeOptions { requests_per_client, ..ServeOptions::default() }).await;
    let mut seen = Vec::new();
    while seen.last() != Some(&String::new()) {
        let mut client = TcpStream::connect(server.address).await.unwrap();
        // To one that was closed already it may fail.
        let _ = client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
        let mut answer = Vec::new();
        let _ = timeout(SOON, client.read_to_end(&mut answer)).await.unwrap();
        seen.push(String::from_utf8(answer).unwrap().chars().take(12).collect::<String>());
    }
    let count = |status: &str| seen.iter().filter(|line| line.ends_with(status)).count();
    assert!(count("200") >= 2 && count("429") >= 1 && seen.len() >= 5, "{seen:?}");
}

#[tokio::test]
async fn nobody_else_is_believed() {
    let server = server(http2()).await;
    let client = server.connect().await;
    assert_eq!(text(get_for(&client, "/", Some("198.51.100.1")).await).await, "127.0.0.1");
}

#[tokio::test]
async fn an_answer_may_switch_protocols() {
    let server = server(http2()).await;
    let mut client = TcpStream::connect(server.address).await.unwrap();
    let request = b"GET /echo HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
    client.write_all(request).await.unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(b"\r\n\r\n") {
        seen.push(timeout(SOON, client.read_u8()).await.unwrap().unwrap());
    }
    assert!(seen.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&seen));
    // The shutdown waits for it.
    server.shutdown.trigger();
    client.write_all(b"hello").await.unwrap();
    let mut echo = [0; 5];
    timeout(SOON, client.read_exact(&mut echo)).await.unwrap().unwrap();
    assert_eq!(&echo, b"hello");
    drop(client);
    stopped(server).await;
}

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
