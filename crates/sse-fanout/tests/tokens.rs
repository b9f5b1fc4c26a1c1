//! Streams live as long as the tokens that began them, over each transport.

#![allow(clippy::unwrap_used, reason = "this is test code")]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::StreamExt as _;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use runcast_bus::{Bus, RedisConfig};
use runcast_protocol::sse::Parser;
use runcast_testkit::{Fanout, Issuer, Pen, Redis, SeenEvent, Viewer, command, eventually, http_get};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

const SOON: Duration = Duration::from_secs(20);
/// Until 2096.
const LONG: u64 = 4_000_000_000;

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn token(issuer: &Issuer, exp: u64, more: &str) -> String {
    issuer.token(&format!(r#"{{"exp":{exp},"runs":["r"],"operations":["view"]{more}}}"#))
}

async fn start(redis: &Redis, issuer: &Issuer, more: &[(&str, &str)]) -> Fanout {
    Fanout::start_with(&redis.url(), &[&issuer.settings(), more].concat()).await
}

/// Connects a viewer, and has it see all that was said so far: it is level then.
async fn watching(fanout: &Fanout, token: &str, events: usize) -> Viewer {
    let mut viewer = fanout.viewer("r", "").with_token(token);
    assert_eq!(viewer.connect().await.unwrap(), 200);
    for _ in 0..events {
        viewer.next().await.unwrap().unwrap();
    }
    viewer
}

async fn eventually_watch(fanout: &Fanout, count: usize) {
    eventually(&format!("{count} watch"), SOON, async || {
        let (_, _, body) = http_get(&fanout.admin_url("/metrics"), &[]).await.ok()?;
        let text = String::from_utf8_lossy(&body).into_owned();
        let viewers = text.lines().find(|line| line.starts_with("runcast_fanout_viewers"))?;
        viewers.ends_with(&format!(" {count}")).then_some(())
    })
    .await;
}

/// The last event, after which the stream must be over.
async fn last(viewer: &mut Viewer) -> SeenEvent {
    let event = viewer.next().await.unwrap().expect("a last event");
    assert!(viewer.next().await.unwrap().is_none(), "the stream went on");
    event
}

#[tokio::test]
async fn an_expired_token_ends_its_stream_and_another_takes_it_up_in_the_same_place() {
    let (redis, issuer) = (Redis::start().await, Issuer::new());
    let fanout = start(&redis, &issuer, &[("RUNCAST__AUTH__LEEWAY", "0s")]).await;
    let mut pen = Pen::new(&redis.url(), "r", "v");
    pen.say("one").await;
    let short = token(&issuer, now() + 3, "");
    let mut viewer = watching(&fanout, &short, 1).await;
    pen.say("two").await;
    let place = viewer.next().await.unwrap().unwrap().id;
    let end = last(&mut viewer).await;
    assert_eq!((end.event.as_str(), end.data.as_str()), ("end", r#"{"reason":"expired"}"#));
    assert_eq!(end.id, place);
    assert_eq!(viewer.connect().await.unwrap(), 401);

    pen.say("three").await;
    let mut viewer = viewer.with_token(&token(&issuer, LONG, ""));
    assert_eq!(viewer.connect().await.unwrap(), 200);
    viewer.next().await.unwrap().unwrap();
    assert_eq!(viewer.history.text("v"), "onetwothree");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_ends_all_its_streams_whatever_carries_them_and_no_other() {
    let (redis, issuer) = (Redis::start().await, Issuer::new());
    let fanout = start(&redis, &issuer, &[("RUNCAST__SSE__COMPRESSION", "gzip")]).await;
    let mut pen = Pen::new(&redis.url(), "r", "v");
    pen.say("one").await;
    let (gone, stays) = (token(&issuer, LONG, r#","jti":"t-1""#), token(&issuer, LONG, r#","jti":"t-2""#));
    // Enough for rows that tasks of their own serve.
    let mut sitting = Vec::new();
    for _ in 0..40 {
        sitting.push(watching(&fanout, &gone, 1).await);
    }
    let mut other = watching(&fanout, &stays, 1).await;
    let h2 = tokio::spawn(over_http2(fanout.port(), gone.clone()));
    let gzip = tokio::spawn(compressed(fanout.url("/v1/runs/r/events"), gone.clone()));
    let ws = tokio::spawn(over_websocket(fanout.port(), gone.clone()));
    // All of them are there.
    eventually_watch(&fanout, 44).await;

    let operator = Bus::connect(&RedisConfig::new(redis.url())).unwrap();
    operator.revoke_token("t-1", Duration::from_secs(60)).await.unwrap();
    for viewer in &mut sitting {
        assert_eq!(last(viewer).await.data, r#"{"reason":"revoked"}"#);
        assert_eq!(viewer.connect().await.unwrap(), 401);
    }
    for events in [h2.await.unwrap(), gzip.await.unwrap()] {
        let end = events.last().unwrap();
        assert_eq!((end.event.as_str(), end.data.as_str()), ("end", r#"{"reason":"revoked"}"#));
        assert_eq!(end.id, events[0].id);
    }
    let (message, code, reason) = ws.await.unwrap();
    assert_eq!(message, r#"{"id":"v:1","event":"end","data":{"reason":"revoked"}}"#);
    assert_eq!((code, reason.as_str()), (1008, "revoked"));
    pen.say("two").await;
    other.next().await.unwrap().unwrap();
    assert_eq!(other.history.text("v"), "onetwo");
}

#[tokio::test]
async fn who_takes_nothing_is_cut_off_when_the_token_is_revoked() {
    let (redis, issuer) = (Redis::start().await, Issuer::new());
    let fanout = start(&redis, &issuer, &[("RUNCAST__HTTP__SEND_BUFFER", "16KiB")]).await;
    let bearer = token(&issuer, LONG, r#","jti":"t-1""#);
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(16 << 10).unwrap();
    let mut socket = socket.connect(([127, 0, 0, 1], fanout.port()).into()).await.unwrap();
    let request =
        format!("GET /v1/runs/r/events HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {bearer}\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    eventually_watch(&fanout, 1).await;
    // More than the kernel holds on both ends.
    Pen::new(&redis.url(), "r", "v").say(&"x".repeat(512 << 10)).await;
    eventually("it is begun", SOON, async || {
        (socket.peek(&mut [0; 4096]).await.unwrap() == 4096).then_some(())
    })
    .await;
    let operator = Bus::connect(&RedisConfig::new(redis.url())).unwrap();
    operator.revoke_token("t-1", Duration::from_secs(60)).await.unwrap();
    eventually_watch(&fanout, 0).await;
    let mut seen = Vec::new();
    let _ = socket.read_to_end(&mut seen).await;
    assert!(seen.len() < 512 << 10 && !seen.ends_with(b"0\r\n\r\n"), "{} bytes", seen.len());
}

#[tokio::test]
async fn a_revocation_that_nobody_could_hear_is_found_out() {
    let (redis, issuer) = (Redis::start().await, Issuer::new());
    let fanout = start(&redis, &issuer, &[]).await;
    Pen::new(&redis.url(), "r", "v").say("one").await;
    let mut viewer = watching(&fanout, &token(&issuer, LONG, r#","jti":"t-1""#), 1).await;
    command(redis.port(), &["SET", "auth:revoked:t-1", "1"]).await.unwrap();
    command(redis.port(), &["CLIENT", "KILL", "TYPE", "pubsub"]).await.unwrap();
    assert_eq!(last(&mut viewer).await.data, r#"{"reason":"revoked"}"#);
}

#[tokio::test]
async fn a_token_shows_its_channels_only_and_counts_where_a_browser_sends_it_by_itself() {
    let (redis, issuer) = (Redis::start().await, Issuer::new());
    let fanout = start(&redis, &issuer, &[("RUNCAST__AUTH__COOKIE", "runcast")]).await;
    let mut pen = Pen::new(&redis.url(), "r", "v");
    pen.state(runcast_protocol::State::Running).await;
    pen.say("one").await;
    pen.state(runcast_protocol::State::Succeeded).await;
    let some = token(&issuer, LONG, r#","channels":["output"]"#);
    let get = async |path: &str, name: &str, value: &str| {
        let (status, _, body) = http_get(&fanout.url(path), &[(name, value)]).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    };
    let bearer = format!("Bearer {some}");
    let (status, seen) = get("/v1/runs/r/events", "authorization", &bearer).await;
    assert!(status == 200 && seen.contains("event: output") && !seen.contains("event: status"), "{seen}");
    assert_eq!(get("/v1/runs/r/events?channels=output,status", "authorization", &bearer).await.0, 403);
    assert_eq!(get("/v1/runs/r", "authorization", &bearer).await.0, 403);
    let all = token(&issuer, LONG, "");
    assert_eq!(get("/v1/runs/r", "cookie", &format!("a=b; runcast={all}")).await.0, 200);
    assert_eq!(get("/v1/runs/r", "cookie", "runcast=x").await.0, 401);
    let replay = issuer.token(&format!(r#"{{"exp":{LONG},"runs":["r"],"operations":["replay"]}}"#));
    assert_eq!(get("/v1/runs/r/events", "authorization", &format!("Bearer {replay}")).await.0, 403);
}

#[tokio::test]
async fn without_a_word_on_tokens_nobody_else_can_come() {
    let redis = Redis::start().await;
    let mut fanout = std::process::Command::new(runcast_testkit::binary("runcast-fanout"));
    fanout.env("RUNCAST__HTTP__LISTEN", "0.0.0.0:0").env("RUNCAST__ADMIN__LISTEN", "");
    fanout.env("RUNCAST__REDIS__URL", redis.url());
    let output = tokio::task::spawn_blocking(move || fanout.output()).await.unwrap().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("auth.mode is not set"), "{said}");
}

async fn over_http2(port: u16, token: String) -> Vec<SeenEvent> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let task = tokio::spawn(connection);
    let request =
        http::Request::get("http://x/v1/runs/r/events").header("authorization", format!("Bearer {token}"));
    let response = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
    let body = timeout(SOON, response.into_body().collect()).await.unwrap().unwrap().to_bytes();
    task.abort();
    Parser::default().push(&body)
}

async fn compressed(url: String, token: String) -> Vec<SeenEvent> {
    use std::io::Read as _;
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str()), ("accept-encoding", "gzip")];
    let (_, _, body) = timeout(SOON, http_get(&url, &headers)).await.unwrap().unwrap();
    let mut text = Vec::new();
    flate2::read::GzDecoder::new(&*body).read_to_end(&mut text).unwrap();
    Parser::default().push(&text)
}

/// The last message, and the code and reason of the close.
async fn over_websocket(port: u16, token: String) -> (String, u16, String) {
    let mut request = format!("ws://127.0.0.1:{port}/v1/runs/r/ws").into_client_request().unwrap();
    request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let (mut socket, _) = client_async(request, stream).await.unwrap();
    let mut last = String::new();
    loop {
        match timeout(SOON, socket.next()).await.unwrap().unwrap().unwrap() {
            Message::Text(text) => last = text.to_string(),
            Message::Close(frame) => {
                let frame = frame.unwrap();
                return (last, frame.code.into(), frame.reason.to_string());
            }
            _ => {}
        }
    }
}

#[tokio::test]
async fn one_subject_comes_at_its_rate_whatever_its_tokens() {
    let (redis, issuer) = (Redis::start().await, Issuer::new());
    let limits = [
        ("RUNCAST__AUTH__REQUESTS_PER_SECOND_PER_HOLDER", "1"),
        ("RUNCAST__AUTH__REQUEST_BURST_PER_HOLDER", "5"),
    ];
    let fanout = Fanout::start_with(&redis.url(), &[&issuer.settings()[..], &limits].concat()).await;
    let mut pen = Pen::new(&redis.url(), "r", "v");
    pen.say("one").await;
    let ask = async |subject: &str, id: usize| {
        let token = token(&issuer, LONG, &format!(r#","sub":"{subject}","jti":"{id}""#));
        let bearer = format!("Bearer {token}");
        http_get(&fanout.url("/v1/runs/r"), &[("authorization", &bearer)]).await.unwrap()
    };
    let mut answered = 0;
    let (headers, body) = loop {
        match ask("ann", answered).await {
            (200, ..) => answered += 1,
            (429, headers, body) => break (headers, body),
            (status, ..) => panic!("{status}"),
        }
    };
    assert!(answered >= 5, "{answered}");
    assert_eq!(headers["retry-after"], "1");
    assert!(String::from_utf8(body.to_vec()).unwrap().contains("too many requests with your tokens"));
    assert_eq!(ask("bob", 0).await.0, 200);
    // Nobody's tokens cost nobody anything.
    let forged = http_get(&fanout.url("/v1/runs/r"), &[("authorization", "Bearer a.b.c")]).await.unwrap();
    assert_eq!(forged.0, 401);
}

#[tokio::test]
async fn one_subject_has_its_share_of_streams_whatever_its_tokens() {
    let (redis, issuer) = (Redis::start().await, Issuer::new());
    let limit = ("RUNCAST__AUTH_LIMITS__MAX_STREAMS_PER_HOLDER", "2");
    let fanout = Fanout::start_with(&redis.url(), &[&issuer.settings()[..], &[limit]].concat()).await;
    let mut pen = Pen::new(&redis.url(), "r", "v");
    pen.say("one").await;
    let ask = async |token: &str| {
        let mut socket =
            TcpStream::connect(fanout.url("").trim_start_matches("http://").trim_end_matches('/'))
                .await
                .unwrap();
        let head =
            format!("GET /v1/runs/r/events HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n");
        socket.write_all(head.as_bytes()).await.unwrap();
        let mut seen = vec![0; 4096];
        let length = timeout(SOON, socket.read(&mut seen)).await.unwrap().unwrap();
        (String::from_utf8_lossy(&seen[..length]).into_owned(), socket)
    };
    let of = |subject: &str, id: &str| token(&issuer, LONG, &format!(r#","sub":"{subject}","jti":"{id}""#));
    let (first, held) = ask(&of("ann", "1")).await;
    let (second, _other) = ask(&of("ann", "2")).await;
    assert!(first.starts_with("HTTP/1.1 200") && second.starts_with("HTTP/1.1 200"), "{first} {second}");
    let (third, _) = ask(&of("ann", "3")).await;
    assert!(third.starts_with("HTTP/1.1 429") && third.contains("retry-after: 5"), "{third}");
    assert!(third.contains("auth_limits.max_streams_per_holder"), "{third}");
    assert!(ask(&of("bob", "4")).await.0.starts_with("HTTP/1.1 200"));
    drop(held);
    eventually("who closes one may open another", SOON, async || {
        ask(&of("ann", "5")).await.0.starts_with("HTTP/1.1 200").then_some(())
    })
    .await;
}
