//! The accept loop over real sockets: limits, draining, clients that misbehave.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::{
    future::pending,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::{Request, Response, StatusCode, body::Frame};
use runcast_runtime::{
    Shutdown,
    http::{Body, Listener, ServeOptions, Takeover, empty, full, json, problem, serve},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::{Semaphore, mpsc, watch},
    task::JoinHandle,
    time::timeout,
};

const SOON: Duration = Duration::from_secs(5);

/// Counts those who still hold it.
struct Held(watch::Sender<usize>);

impl Held {
    fn new(count: &watch::Sender<usize>) -> Held {
        count.send_modify(|count| *count += 1);
        Held(count.clone())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

struct Server {
    address: std::net::SocketAddr,
    shutdown: Shutdown,
    /// How many requests are being answered.
    answering: watch::Receiver<usize>,
    /// Lets `/slow` answer, once for each permit.
    ready: Arc<Semaphore>,
    task: JoinHandle<()>,
}

async fn server(options: ServeOptions) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = Shutdown::new();
    let (count, answering) = watch::channel(0);
    let ready = Arc::new(Semaphore::new(0));
    let may_answer = ready.clone();
    let service = move |request: Request<_>| {
        let (held, may_answer) = (Held::new(&count), may_answer.clone());
        async move { answer(request.uri().path(), held, &may_answer).await }
    };
    let task = tokio::spawn(serve(listener, service, options, shutdown.clone()));
    Server { address, shutdown, answering, ready, task }
}

async fn answer(path: &str, held: Held, may_answer: &Semaphore) -> Response<Body> {
    match path {
        "/slow" => {
            may_answer.acquire().await.unwrap().forget();
            Response::new(full("slow but sure"))
        }
        "/never" => {
            let _held = held;
            pending().await
        }
        "/panic" => panic!("as asked"),
        "/endless" => Response::new(endless(held)),
        "/taken" => taken(held),
        _ => Response::new(full("hello")),
    }
}

/// An answer that goes on without HTTP: one chunk, and an echo of what the client says next.
fn taken(held: Held) -> Response<Body> {
    let mut response = Response::new(empty());
    response.headers_mut().insert("x-kind", "taken".parse().unwrap());
    response.extensions_mut().insert(Takeover::new(std::future::ready(()), |(), socket| async move {
        let _held = held;
        socket.try_write(b"2\r\nhi\r\n").unwrap();
        let mut said = [0; 64];
        let length = loop {
            socket.readable().await.unwrap();
            match socket.try_read(&mut said) {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                read => break read.unwrap(),
            }
        };
        socket.try_write(&said[..length]).unwrap();
    }));
    response
}

/// A body of 16 KiB chunks that ends only with its reader.
fn endless(held: Held) -> Body {
    let (sender, receiver) = mpsc::channel::<Bytes>(1);
    tokio::spawn(async move {
        let _held = held;
        while sender.send(Bytes::from_static(&[b'x'; 16 * 1024])).await.is_ok() {}
    });
    let stream = futures_util::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|chunk| (Ok::<_, std::io::Error>(Frame::data(chunk)), receiver))
    });
    StreamBody::new(stream).map_err(Into::into).boxed_unsync()
}

async fn request(address: std::net::SocketAddr, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
    stream
}

impl Server {
    async fn until_answering(&self, count: usize) {
        let mut answering = self.answering.clone();
        let reached = timeout(SOON, answering.wait_for(|answering| *answering == count)).await;
        reached.unwrap_or_else(|_| panic!("still not answering {count}")).unwrap();
    }
}

async fn stopped(server: Server) -> Duration {
    let start = Instant::now();
    server.shutdown.trigger();
    timeout(SOON, server.task).await.expect("the server stops").unwrap();
    start.elapsed()
}

#[tokio::test]
async fn a_running_answer_is_finished_on_shutdown() {
    let server = server(ServeOptions::default()).await;
    let mut client = request(server.address, "/slow").await;
    server.until_answering(1).await;
    server.shutdown.trigger();
    // It takes nobody new any more: the shutdown is under way.
    let refused = async { while TcpStream::connect(server.address).await.is_ok() {} };
    timeout(SOON, refused).await.expect("it stops listening");
    server.ready.add_permits(1);
    stopped(server).await;
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("slow but sure"), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
}

#[tokio::test]
async fn idle_and_silent_connections_do_not_hold_up_shutdown() {
    let server = server(ServeOptions::default()).await;
    let mut idle = request(server.address, "/").await;
    idle.read_exact(&mut [0; 8]).await.unwrap();
    let _silent = TcpStream::connect(server.address).await.unwrap();
    // A third one, answered, shows that the silent one before it has been accepted.
    request(server.address, "/").await.read_exact(&mut [0; 8]).await.unwrap();
    assert!(stopped(server).await < Duration::from_secs(1));
}

#[tokio::test]
async fn what_never_ends_is_cut_after_the_drain() {
    let server = server(ServeOptions { drain: Duration::from_millis(100), ..ServeOptions::default() }).await;
    let answering = server.answering.clone();
    let mut client = request(server.address, "/never").await;
    server.until_answering(1).await;
    stopped(server).await;
    assert_eq!(*answering.borrow(), 0);
    assert_eq!(client.read(&mut [0; 8]).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn a_client_that_leaves_ends_its_answer() {
    let server = server(ServeOptions::default()).await;
    let client = request(server.address, "/never").await;
    server.until_answering(1).await;
    drop(client);
    server.until_answering(0).await;
    stopped(server).await;
}

#[tokio::test]
async fn a_client_that_does_not_read_is_closed() {
    let options = ServeOptions { write_stall: Duration::from_millis(200), ..ServeOptions::default() };
    let server = server(options).await;
    let _stalled = request(server.address, "/endless").await;
    server.until_answering(1).await;
    server.until_answering(0).await;
    stopped(server).await;
}

#[tokio::test]
async fn a_head_that_does_not_come_is_not_waited_for() {
    let options = ServeOptions { header_timeout: Duration::from_millis(100), ..ServeOptions::default() };
    let server = server(options).await;
    let mut client = TcpStream::connect(server.address).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nhost:").await.unwrap();
    let mut answer = Vec::new();
    timeout(SOON, client.read_to_end(&mut answer)).await.expect("closed").unwrap();
    stopped(server).await;
}

#[tokio::test]
async fn connections_above_the_limit_wait_their_turn() {
    let server = server(ServeOptions { max_connections: 1, ..ServeOptions::default() }).await;
    let first = request(server.address, "/never").await;
    server.until_answering(1).await;
    let mut second = request(server.address, "/").await;
    let early = timeout(Duration::from_millis(100), second.read_u8()).await;
    assert!(early.is_err(), "answered above the limit");
    drop(first);
    timeout(SOON, second.read_exact(&mut [0; 12])).await.expect("answered in turn").unwrap();
    stopped(server).await;
}

#[tokio::test]
async fn a_panic_costs_its_own_connection_only() {
    let server = server(ServeOptions::default()).await;
    let mut client = request(server.address, "/panic").await;
    assert_eq!(client.read(&mut [0; 8]).await.unwrap_or(0), 0);
    request(server.address, "/").await.read_exact(&mut [0; 12]).await.unwrap();
    stopped(server).await;
}

#[tokio::test]
async fn a_unix_socket_serves_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("api.sock");
    let shutdown = Shutdown::new();
    let listener = Listener::from(UnixListener::bind(&path).unwrap());
    let service = |_| async { Response::new(empty()) };
    let task = tokio::spawn(serve(listener, service, ServeOptions::default(), shutdown.clone()));
    let mut client = UnixStream::connect(&path).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    shutdown.trigger();
    task.await.unwrap();
}

#[tokio::test]
async fn answers_say_what_they_are() {
    let refused = problem(StatusCode::BAD_REQUEST, "`after` is no cursor");
    assert_eq!(refused.status(), 400);
    assert_eq!(refused.headers()["content-type"], "application/problem+json");
    let body: serde_json::Value =
        serde_json::from_slice(&refused.into_body().collect().await.unwrap().to_bytes()).unwrap();
    let expected = serde_json::json!({
        "type": "about:blank", "title": "Bad Request", "status": 400, "detail": "`after` is no cursor",
    });
    assert_eq!(body, expected);

    let found = json(StatusCode::OK, &["a"]);
    assert_eq!(found.headers()["content-type"], "application/json");
    assert_eq!(found.into_body().collect().await.unwrap().to_bytes(), r#"["a"]"#);
}

#[tokio::test]
async fn an_answer_may_take_the_socket_over() {
    let server = server(ServeOptions::default()).await;
    let mut client = TcpStream::connect(server.address).await.unwrap();
    // With an answer before it on the same connection, which must have gone out first.
    client
        .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\nGET /taken HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    let mut seen = String::new();
    while !seen.ends_with("hi\r\n") {
        let mut buffer = [0; 1024];
        let length = timeout(SOON, client.read(&mut buffer)).await.unwrap().unwrap();
        assert!(length > 0, "closed after {seen:?}");
        seen.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
    }
    let (first, second) = seen.split_once("hello").unwrap();
    assert!(first.starts_with("HTTP/1.1 200 OK\r\n"), "{first}");
    assert!(
        second.starts_with("HTTP/1.1 200 OK\r\nx-kind: taken\r\nx-content-type-options: nosniff\r\ndate: "),
        "{second}"
    );
    assert!(second.ends_with("transfer-encoding: chunked\r\n\r\n2\r\nhi\r\n"), "{second}");
    client.write_all(b"echo").await.unwrap();
    let mut rest = Vec::new();
    timeout(SOON, client.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert_eq!(rest, b"echo");
    server.until_answering(0).await;
    stopped(server).await;
}
