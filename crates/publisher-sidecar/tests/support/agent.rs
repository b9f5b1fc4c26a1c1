//! An agent that asks its sidecar for commands.

use std::path::{Path, PathBuf};

use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use runcast_protocol::sse::{Event, Parser};
use runcast_testkit::{Process, Redis, Sidecar};
use serde_json::{Value, json};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::operator::Operator;
use super::{RUN, SOON, call};

/// A sidecar that serves, in its own folder.
pub struct Served {
    pub process: Process,
    pub socket: PathBuf,
    sidecar: Sidecar,
    _folder: tempfile::TempDir,
}

impl Served {
    /// Of variation `a`, with a Redis and an operator of its own.
    pub async fn alone() -> (Redis, Operator, Self) {
        let redis = Redis::start().await;
        let operator = Operator::of(&redis.url());
        let served = Self::of(&redis, "a").await;
        (redis, operator, served)
    }

    pub async fn of(redis: &Redis, variation: &str) -> Self {
        Self::with(redis, variation, |sidecar| sidecar).await
    }

    pub async fn with(redis: &Redis, variation: &str, set: impl Fn(Sidecar) -> Sidecar) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("agent.sock");
        let sidecar = set(Sidecar::new(&redis.url(), RUN, variation));
        Self { process: sidecar.serve(&socket).await, socket, sidecar, _folder: folder }
    }

    /// Starts it again.
    pub async fn restart(&mut self) {
        self.process.kill9();
        self.process = self.sidecar.serve(&self.socket).await;
    }

    pub async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        call(&self.socket, "POST", path, "application/json", &body.to_string()).await
    }

    pub async fn get(&self, path: &str) -> Value {
        let (status, answer) = call(&self.socket, "GET", path, "application/json", "").await;
        assert_eq!(status, 200, "{answer}");
        answer
    }

    /// Says how far a command has come; it must be taken.
    pub async fn ack(&self, id: &str, step: &str) {
        let (status, answer) = self.post(&format!("/v1/commands/{id}/ack"), json!({"step": step})).await;
        assert_eq!(status, 200, "{answer}");
    }

    /// Listens to commands and letters.
    pub async fn listen(&self, last_event_id: Option<&str>) -> Listening {
        Listening::open(&self.socket, last_event_id).await
    }
}

/// An open stream of events.
pub struct Listening {
    body: Incoming,
    parser: Parser,
    events: std::collections::VecDeque<Event>,
    connection: JoinHandle<()>,
}

impl Listening {
    async fn open(socket: &Path, last_event_id: Option<&str>) -> Self {
        let stream = UnixStream::connect(socket).await.expect("the API listens");
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("it speaks HTTP");
        let connection = tokio::spawn(async move { drop(connection.await) });
        let mut request = Request::get("/v1/commands").header("host", "sidecar");
        if let Some(id) = last_event_id {
            request = request.header("last-event-id", id);
        }
        let request = request.body(Empty::<bytes::Bytes>::new()).expect("a request");
        let response = sender.send_request(request).await.expect("an answer");
        assert_eq!(response.status(), 200);
        Self { body: response.into_body(), parser: Parser::default(), events: Default::default(), connection }
    }

    /// The next event; none when the stream has ended.
    pub async fn try_next(&mut self) -> Option<Event> {
        let next = async {
            loop {
                if let Some(event) = self.events.pop_front() {
                    return Some(event);
                }
                let bytes = self.body.frame().await?.ok()?.into_data().expect("data");
                self.events.extend(self.parser.push(&bytes));
            }
        };
        timeout(SOON, next).await.expect("an event in time")
    }

    /// The next event's name and data.
    pub async fn next(&mut self) -> (String, Value) {
        let event = self.try_next().await.expect("the stream goes on");
        (event.event, serde_json::from_str(&event.data).expect("JSON"))
    }

    /// The next command's id.
    pub async fn command(&mut self) -> String {
        let (name, data) = self.next().await;
        assert_eq!(name, "command", "{data}");
        data["command"].as_str().expect("an id").to_owned()
    }

    /// What to come back with.
    pub fn last_event_id(&self) -> &str {
        self.parser.last_event_id()
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.connection.abort();
    }
}
