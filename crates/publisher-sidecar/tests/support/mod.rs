//! What these tests share: reading back what Redis holds, and speaking to the local API.
#![allow(dead_code, unreachable_pub, reason = "each test uses its part of this, and nobody else any")]

pub mod agent;
pub mod operator;

use std::convert::Infallible;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::Request;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::TokioIo;
use runcast_bus::{Bus, EntryId, RedisConfig};
use runcast_protocol::{Batch, Lane, Message, RunId, State, Status};
use runcast_testkit::{Process, eventually};
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::sync::mpsc;

/// How long anything may take that should take a moment.
pub const SOON: Duration = Duration::from_secs(20);

/// The run of a test's own Redis.
pub const RUN: &str = "run-1";

/// A variation's lanes in Redis.
pub struct Lanes {
    bus: Bus,
    run: RunId,
}

impl Lanes {
    pub fn of(url: &str) -> Self {
        let bus = Bus::connect(&RedisConfig::new(url)).expect("an address");
        Self { bus, run: RunId::new(RUN).expect("an id") }
    }

    /// A lane's messages; none while Redis cannot be asked. They are numbered without a hole.
    pub async fn messages(&self, lane: &str) -> Option<Vec<Message>> {
        let messages = self.messages_and_holes(lane).await?;
        for (message, number) in messages.iter().zip(1..) {
            assert_eq!(message.sequence.get(), number, "{lane} is not numbered without a hole");
        }
        Some(messages)
    }

    /// A lane's messages, whatever their numbers are.
    pub async fn messages_and_holes(&self, lane: &str) -> Option<Vec<Message>> {
        let lane: Lane = lane.parse().expect("a lane");
        let (mut after, mut messages) = (EntryId::default(), Vec::new());
        loop {
            let page = self.bus.read(&self.run, &lane, after, 500).await.ok()?;
            for payload in page.batches {
                let batch = Batch::parse(payload).expect("a batch");
                if batch.lane == lane {
                    let parsed =
                        batch.entries.iter().map(|entry| Message::parse(&entry.line).expect("a message"));
                    messages.extend(parsed);
                }
            }
            after = page.end;
            if page.is_last {
                break;
            }
        }
        Some(messages)
    }

    /// All that was said on `output/a`, put together.
    pub async fn text(&self) -> Option<String> {
        let messages = self.messages("output/a").await?;
        Some(messages.iter().map(|message| message.content.to_text().expect("output is text")).collect())
    }

    /// Waits until `output/a` says `text`.
    pub async fn say(&self, text: &str) {
        eventually(&format!("output {text:?}"), SOON, async || self.text().await.filter(|said| said == text))
            .await;
    }

    /// The contents of `logs/a` and their metadata, as JSON.
    pub async fn logs(&self) -> Vec<(Value, Value)> {
        let messages = self.messages("logs/a").await.expect("redis answers");
        let json = |text: &str| serde_json::from_str(text).expect("JSON");
        messages.iter().map(|log| (json(log.content.as_str()), json(log.metadata.as_str()))).collect()
    }

    /// What was said on `status/a`.
    pub async fn statuses(&self) -> Vec<Status> {
        let messages = self.messages("status/a").await.expect("redis answers");
        messages.iter().map(|message| message.content.read().expect("a status")).collect()
    }

    /// The states said on `status/a`.
    pub async fn states(&self) -> Vec<State> {
        self.statuses().await.iter().map(|status| status.state).collect()
    }
}

/// Waits until a process has said `text` on stderr.
pub async fn told(process: &Process, text: &str) {
    eventually(&format!("{text:?} on stderr"), SOON, async || process.log().contains(text).then_some(()))
        .await;
}

type RequestBody = UnsyncBoxBody<Bytes, Infallible>;

/// Sends a request to the API on a Unix socket; returns status and JSON.
pub async fn call(socket: &Path, method: &str, path: &str, content_type: &str, body: &str) -> (u16, Value) {
    let body = Full::new(Bytes::from(body.to_owned())).boxed_unsync();
    send(socket, Request::builder().method(method).uri(path).header("content-type", content_type), body).await
}

/// The same with a body that comes in pieces, until the sender is dropped.
pub fn stream(
    socket: &Path,
    path: &str,
    content_type: &str,
) -> (mpsc::Sender<&'static [u8]>, tokio::task::JoinHandle<(u16, Value)>) {
    let (pieces, receiver) = mpsc::channel(1);
    let body =
        StreamBody::new(stream::unfold(receiver, async |mut receiver: mpsc::Receiver<&'static [u8]>| {
            let piece = receiver.recv().await?;
            Some((Ok(Frame::data(Bytes::from_static(piece))), receiver))
        }));
    let request = Request::builder().method("POST").uri(path).header("content-type", content_type);
    let socket = socket.to_owned();
    (pieces, tokio::spawn(async move { send(&socket, request, body.boxed_unsync()).await }))
}

/// Sends any request.
pub async fn send(socket: &Path, request: http::request::Builder, body: RequestBody) -> (u16, Value) {
    let stream = UnixStream::connect(socket).await.expect("the API listens");
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("it speaks HTTP");
    let connection = tokio::spawn(connection);
    let request =
        request.header("host", "sidecar").header("accept", "application/json").body(body).expect("a request");
    let response = sender.send_request(request).await.expect("an answer");
    let status = response.status().as_u16();
    let text = response.into_body().collect().await.expect("a whole answer").to_bytes();
    connection.abort();
    (status, serde_json::from_slice(&text).expect("a JSON answer"))
}
