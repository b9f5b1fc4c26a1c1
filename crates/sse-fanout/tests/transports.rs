//! The real fan-out over WebSockets and HTTP/2, and compressed.

#![allow(clippy::unwrap_used, reason = "this is test code")]

use std::io::Read as _;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use runcast_protocol::State;
use runcast_protocol::sse::{Event, Parser};
use runcast_testkit::{Fanout, Pen, Redis};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};
use tokio_util::task::AbortOnDropHandle;

const SOON: Duration = Duration::from_secs(20);

type Socket = WebSocketStream<TcpStream>;

async fn connect(fanout: &Fanout, path: &str, origin: Option<&str>) -> Result<Socket, Error> {
    let mut request = format!("ws://127.0.0.1:{}/v1/runs/{path}", fanout.port()).into_client_request()?;
    if let Some(origin) = origin {
        request.headers_mut().insert("origin", origin.parse().unwrap());
    }
    let stream = TcpStream::connect(("127.0.0.1", fanout.port())).await?;
    client_async(request, stream).await.map(|(socket, _)| socket)
}

async fn next(socket: &mut Socket) -> Message {
    timeout(SOON, socket.next()).await.expect("a message").expect("not the end").unwrap()
}

/// The messages until the close, and its code and reason.
async fn to_close(socket: &mut Socket) -> (Vec<Value>, u16, String) {
    let mut messages = Vec::new();
    loop {
        match next(socket).await {
            Message::Text(text) => messages.push(serde_json::from_str(&text).unwrap()),
            Message::Close(frame) => {
                let frame = frame.unwrap();
                return (messages, frame.code.into(), frame.reason.to_string());
            }
            _ => {}
        }
    }
}

/// A run's events over HTTP/2, to the end.
async fn over_http2(fanout: &Fanout, run: &str, query: &str) -> Vec<Event> {
    let stream = TcpStream::connect(("127.0.0.1", fanout.port())).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let task = tokio::spawn(connection);
    let request = http::Request::get(format!("http://x/v1/runs/{run}/events?{query}"));
    let response = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let body = timeout(SOON, response.into_body().collect()).await.unwrap().unwrap().to_bytes();
    task.abort();
    Parser::default().push(&body)
}

/// The events as a WebSocket should have brought them.
fn expected(events: &[Event]) -> Vec<(String, String, Value)> {
    let parts =
        |event: &Event| (event.id.clone(), event.event.clone(), serde_json::from_str(&event.data).unwrap());
    events.iter().map(parts).collect()
}

fn got(messages: &[Value]) -> Vec<(String, String, Value)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    messages.iter().map(|m| (text(&m["id"]), text(&m["event"]), m["data"].clone())).collect()
}

#[tokio::test]
async fn a_websocket_and_http2_show_the_same() {
    let redis = Redis::start().await;
    let fanout = Fanout::start(&redis.url()).await;
    let mut pen = Pen::new(&redis.url(), "r", "var-1");
    pen.state(State::Running).await;
    pen.say("one \"é\"\n").await;
    let mut live = connect(&fanout, "r/ws?channels=output,status", None).await.unwrap();
    let Message::Text(first) = next(&mut live).await else { panic!("no text") };
    let first: Value = serde_json::from_str(&first).unwrap();
    assert_eq!(first["retry"], 2000, "{first}");
    for number in 0..200 {
        pen.say(&format!("{number} ")).await;
    }
    pen.state(State::Succeeded).await;
    let (mut messages, code, _) = to_close(&mut live).await;
    messages.insert(0, first);
    assert_eq!(code, 1000);
    let events = over_http2(&fanout, "r", "channels=output,status").await;
    let (mut of_socket, mut of_stream) = (got(&messages), expected(&events));
    // Live and read later, lanes may be interleaved otherwise; each lane's order, and the end, are the same.
    assert_eq!(of_socket.pop().unwrap(), of_stream.pop().unwrap());
    let lane = |all: &[(String, String, Value)], name: &str| -> Vec<Value> {
        all.iter().filter(|(_, event, _)| event == name).map(|(_, _, data)| data.clone()).collect()
    };
    for name in ["output", "status"] {
        assert_eq!(lane(&of_socket, name), lane(&of_stream, name));
    }
    assert_eq!(lane(&of_socket, "output").len(), 201);

    // Coming back in the middle, and after the end.
    let cursor = messages[100]["id"].as_str().unwrap();
    let mut again =
        connect(&fanout, &format!("r/ws?channels=output,status&after={cursor}"), None).await.unwrap();
    let (rest, code, _) = to_close(&mut again).await;
    assert_eq!(code, 1000);
    let rest = got(&rest);
    assert_eq!(lane(&rest, "output"), lane(&got(&messages[101..]), "output"));
    let cursor = messages.last().unwrap()["id"].as_str().unwrap();
    let mut late =
        connect(&fanout, &format!("r/ws?channels=output,status&after={cursor}"), None).await.unwrap();
    let (rest, code, _) = to_close(&mut late).await;
    assert_eq!((rest.len(), code), (1, 1000));
    assert_eq!(rest[0]["event"], "end");
}

#[tokio::test]
async fn silence_is_filled_with_pings_and_long_messages_are_refused() {
    let redis = Redis::start().await;
    let fanout = Fanout::start_with(&redis.url(), &[("RUNCAST__SSE__HEARTBEAT", "100ms")]).await;
    let mut socket = connect(&fanout, "r/ws", None).await.unwrap();
    assert!(matches!(next(&mut socket).await, Message::Ping(_)));
    socket.send(Message::text("hello")).await.unwrap();
    assert!(matches!(next(&mut socket).await, Message::Ping(_)));
    socket.send(Message::text("x".repeat(5000))).await.unwrap();
    let (_, code, _) = to_close(&mut socket).await;
    assert_eq!(code, 1009);
}

#[tokio::test]
async fn on_shutdown_viewers_are_told_when_to_come_back() {
    let redis = Redis::start().await;
    let mut fanout = Fanout::start_with(&redis.url(), &[("RUNCAST__DRAIN__TIME", "1s")]).await;
    let mut socket = connect(&fanout, "r/ws", None).await.unwrap();
    fanout.process().signal(rustix::process::Signal::TERM);
    let (_, code, reason) = to_close(&mut socket).await;
    assert_eq!(code, 1001);
    let retry: u64 = reason.strip_prefix("retry=").unwrap().parse().unwrap();
    assert!((2000..=3000).contains(&retry), "{retry}");
}

#[tokio::test]
async fn only_pages_that_may_read_connect() {
    let redis = Redis::start().await;
    let origins = [("RUNCAST__CORS__ORIGINS", "https://app.example")];
    let fanout = Fanout::start_with(&redis.url(), &origins).await;
    let own = format!("http://127.0.0.1:{}", fanout.port());
    for origin in [None, Some("https://app.example"), Some(&*own)] {
        connect(&fanout, "r/ws", origin).await.unwrap();
    }
    for (path, origin, expected) in
        [("r/ws", Some("https://evil.example"), 403), ("r/ws?after=nonsense", None, 400)]
    {
        let Err(Error::Http(refusal)) = connect(&fanout, path, origin).await else { panic!("let in") };
        assert_eq!(refusal.status().as_u16(), expected);
    }
    let (status, headers, _) = runcast_testkit::http_get(&fanout.url("/v1/runs/r/ws"), &[]).await.unwrap();
    assert_eq!(status, 426);
    assert_eq!(headers["upgrade"], "websocket");
}

#[tokio::test]
async fn who_asks_for_it_gets_a_compressed_stream() {
    let redis = Redis::start().await;
    let fanout = Fanout::start_with(&redis.url(), &[("RUNCAST__SSE__COMPRESSION", "zstd,br,gzip")]).await;
    let mut pen = Pen::new(&redis.url(), "r", "var-1");
    pen.say("0 ").await;
    let url = fanout.url("/v1/runs/r/events?merge=false&channels=output");
    let encodings = ["", "gzip", "br", "br, gzip", "zstd", "gzip, br, zstd"];
    // Several of each, who come one after the other while the run goes on, and are there until its end.
    let viewers: Vec<_> = (0..30)
        .map(|number| {
            let (url, accepted) = (url.clone(), encodings[number % encodings.len()]);
            tokio::spawn(async move {
                runcast_testkit::http_get(&url, &[("accept-encoding", accepted)]).await.unwrap()
            })
        })
        .collect();
    for number in 1..300 {
        pen.say(&format!("{number} ")).await;
    }
    pen.state(State::Succeeded).await;
    let mut texts = Vec::new();
    for (number, viewer) in viewers.into_iter().enumerate() {
        let (_, headers, body) = timeout(SOON, viewer).await.unwrap().unwrap();
        let expected = ["", "gzip", "br", "br", "zstd", "zstd"][number % encodings.len()];
        let encoding = headers.get("content-encoding").map_or("", |value| value.to_str().unwrap());
        assert_eq!(encoding, expected);
        assert!(headers.get_all("vary").iter().any(|name| name == "accept-encoding"));
        let mut seen = Vec::new();
        match expected {
            "gzip" => flate2::read::GzDecoder::new(&*body).read_to_end(&mut seen).unwrap(),
            "br" => brotli::Decompressor::new(&*body, 4096).read_to_end(&mut seen).unwrap(),
            "zstd" => zstd::Decoder::new(&*body).unwrap().read_to_end(&mut seen).unwrap(),
            _ => body.to_vec().as_slice().read_to_end(&mut seen).unwrap(),
        };
        assert!(expected.is_empty() || body.len() * 3 < seen.len() * 2, "{} of {}", body.len(), seen.len());
        texts.push(seen);
    }
    let events = |text: &[u8]| {
        let events = Parser::default().push(text);
        events.into_iter().map(|event| (event.id, event.data)).collect::<Vec<_>>()
    };
    let first = events(&texts[0]);
    assert_eq!(first.len(), 301, "300 messages and the end");
    assert!(texts.iter().all(|text| events(text) == first));
}

#[tokio::test]
async fn a_compressed_stream_has_heartbeats() {
    let redis = Redis::start().await;
    let options = [("RUNCAST__SSE__COMPRESSION", "gzip"), ("RUNCAST__SSE__HEARTBEAT", "100ms")];
    let fanout = Fanout::start_with(&redis.url(), &options).await;
    let stream = TcpStream::connect(("127.0.0.1", fanout.port())).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    let task = AbortOnDropHandle::new(tokio::spawn(connection));
    let request =
        http::Request::get("/v1/runs/r/events").header("host", "x").header("accept-encoding", "gzip");
    let response = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
    let (mut body, mut sent) = (response.into_body(), Vec::new());
    loop {
        let piece = timeout(SOON, body.frame()).await.unwrap().unwrap().unwrap();
        sent.extend_from_slice(&piece.into_data().unwrap());
        let mut seen = Vec::new();
        // It has not ended, which is an error to whoever reads to the end.
        let _ = flate2::read::GzDecoder::new(&*sent).read_to_end(&mut seen);
        if seen.ends_with(b"\n:\n:\n") {
            return drop(task);
        }
    }
}
