//! The accept loop with clients that speak HTTP/2, TLS, or another protocol after HTTP, and with those who ask too much.

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
use runcast_runtime::Shutdown;
use runcast_runtime::http::{
    Body, CanTakeOver, ClientAddress, Http2Options, ServeOptions, Upgrade, empty, full, problem, serve,
};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::timeout;

mod limits;
mod tls;

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
    speak_until_closed(stream).await.0
}

/// The same, with what ends when the connection does.
async fn speak_until_closed<I>(stream: I) -> (SendRequest<Empty<Bytes>>, JoinHandle<hyper::Result<()>>)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(128 * 1024)
        .initial_connection_window_size(64 * 1024 * 1024)
        .handshake(TokioIo::new(stream))
        .await
        .unwrap();
    (sender, tokio::spawn(connection))
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
    let (idle, ended) = speak_until_closed(TcpStream::connect(server.address).await.unwrap()).await;
    let busy = server.connect().await;
    let slow = tokio::spawn(get(&busy, "/slow"));
    text(get(&idle, "/").await).await;
    let _ = timeout(SOON, ended).await.expect("closed");
    assert!(idle.is_closed());
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
