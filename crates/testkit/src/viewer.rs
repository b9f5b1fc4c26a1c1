//! A viewer: an SSE client that can be cut off at will and comes back with its last event id.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::{Context, bail};
use http::HeaderMap;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use runcast_protocol::sse::{Event, Parser};
use tokio::task::JoinHandle;

use crate::history::History;
use crate::http::request;

/// An event as a viewer sees it.
pub type SeenEvent = Event;

/// A viewer of a run.
#[derive(Debug)]
pub struct Viewer {
    port: u16,
    path: String,
    last_event_id: String,
    token: Option<String>,
    connection: Option<Connection>,
    /// What it has seen, over all its connections.
    pub history: History,
}

#[derive(Debug)]
struct Connection {
    body: Incoming,
    parser: Parser,
    events: VecDeque<Event>,
    headers: HeaderMap,
    task: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        // Closes the socket at once, as a browser that goes away does.
        self.task.abort();
    }
}

impl Viewer {
    /// A viewer that is not connected yet; `query` without the question mark.
    pub fn new(port: u16, run: &str, query: &str) -> Self {
        Self::at(port, format!("/v1/runs/{run}/events?{query}"))
    }

    /// A viewer of a replay; `query` without the question mark.
    pub fn of_replay(port: u16, run: &str, query: &str) -> Self {
        Self::at(port, format!("/v1/runs/{run}/replay?{query}"))
    }

    fn at(port: u16, path: String) -> Self {
        let last_event_id = String::new();
        Self { port, path, last_event_id, token: None, connection: None, history: History::default() }
    }

    /// The same with a token.
    #[must_use]
    pub fn with_token(mut self, token: &str) -> Self {
        self.token = Some(format!("Bearer {token}"));
        self
    }

    /// Connects, or reconnects with the last event id; the status of the answer.
    ///
    /// # Errors
    /// If the server cannot be reached.
    pub async fn connect(&mut self) -> anyhow::Result<u16> {
        self.drop_connection();
        let mut headers = vec![("accept", "text/event-stream")];
        if !self.last_event_id.is_empty() {
            headers.push(("last-event-id", &self.last_event_id));
        }
        headers.extend(self.token.as_deref().map(|token| ("authorization", token)));
        let (response, task) = request(self.port, &self.path, &headers).await?;
        let (parts, body) = response.into_parts();
        if parts.status == 200 {
            let parser = Parser::default();
            self.connection =
                Some(Connection { body, parser, events: VecDeque::new(), headers: parts.headers, task });
        }
        Ok(parts.status.as_u16())
    }

    /// Connects, again and again while the server is being restarted; the status of the answer.
    ///
    /// # Errors
    /// If the server was not back within `deadline`.
    pub async fn reconnect(&mut self, deadline: Duration) -> anyhow::Result<u16> {
        let attempts = async {
            loop {
                match self.connect().await {
                    Ok(status) => return status,
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        };
        tokio::time::timeout(deadline, attempts)
            .await
            .with_context(|| format!("not back within {deadline:?}"))
    }

    /// Goes away, perhaps in the middle of an event.
    pub fn drop_connection(&mut self) {
        self.connection = None;
    }

    /// Whether it is connected.
    pub fn is_connected(&self) -> bool {
        self.connection.is_some()
    }

    /// Connects elsewhere from now on.
    pub fn set_port(&mut self, port: u16) {
        self.port = port;
    }

    /// The last event id.
    pub fn last_event_id(&self) -> &str {
        &self.last_event_id
    }

    /// The headers of the answer.
    pub fn headers(&self) -> Option<&HeaderMap> {
        self.connection.as_ref().map(|connection| &connection.headers)
    }

    /// The next event, taken into the history; none when the stream ended cleanly.
    ///
    /// # Errors
    /// If the connection broke, or nothing came in 30 s.
    pub async fn next(&mut self) -> anyhow::Result<Option<Event>> {
        let wait = Duration::from_secs(30);
        let event = tokio::time::timeout(wait, self.receive()).await.context("no event within 30 s")??;
        if let Some(event) = &event {
            self.last_event_id.clone_from(&event.id);
            self.history.take(event);
        }
        Ok(event)
    }

    async fn receive(&mut self) -> anyhow::Result<Option<Event>> {
        let connection = self.connection.as_mut().context("not connected")?;
        loop {
            if let Some(event) = connection.events.pop_front() {
                return Ok(Some(event));
            }
            match connection.body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => bail!("connection broke: {error}"),
                Some(Ok(frame)) => {
                    let data = frame.into_data().unwrap_or_default();
                    connection.events.extend(connection.parser.push(&data));
                }
            }
        }
    }

    /// Watches until the end, reconnecting as often as it takes. Who had everything but the event `end` when
    /// the connection broke is told by a 204 that there is nothing more.
    ///
    /// # Errors
    /// If there was no end within `deadline`.
    pub async fn watch_to_end(&mut self, deadline: Duration) -> anyhow::Result<()> {
        let watch = async {
            while self.history.end.is_none() {
                if !self.is_connected() {
                    let status = self.reconnect(deadline).await?;
                    if status == 204 && !self.last_event_id.is_empty() {
                        break;
                    }
                    anyhow::ensure!(status == 200, "status {status} before the end was seen");
                } else if !matches!(self.next().await, Ok(Some(_))) {
                    self.drop_connection();
                }
            }
            Ok(())
        };
        let outcome = tokio::time::timeout(deadline, watch).await;
        outcome.with_context(|| format!("no end within {deadline:?}"))?
    }
}
