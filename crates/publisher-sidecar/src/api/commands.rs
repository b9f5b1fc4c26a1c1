//! `GET /v1/commands`: the commands to the agent and the letters from others, as a stream of events or,
//! for who would rather ask again and again, as JSON.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use runcast_protocol::{Action, CommandId, Cursor, sse, timestamp};
use runcast_runtime::http::{Body, empty, json};
use serde::de::IntoDeserializer;
use serde::de::value::{Error as ValueError, StrDeserializer};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

use super::Api;
use super::answer::Refusal;
use crate::commands::inbox::Item;
use crate::commands::order::Order;

/// After so much silence a heartbeat is sent.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// The reconnection delay that clients are told.
const RETRY: Duration = Duration::from_secs(1);

/// Longest wait for something to come.
const MAX_WAIT: Duration = Duration::from_secs(300);

/// What is asked for.
#[derive(Debug, PartialEq)]
struct Asked {
    after: Option<Cursor>,
    wait: Duration,
}

impl Asked {
    /// From the query and the `Last-Event-ID` header, which wins: who reconnects has the same address.
    fn parse(query: &str, headers: &HeaderMap) -> Result<Self, Refusal> {
        let mut asked = Self { after: None, wait: Duration::ZERO };
        let cursor = |text: &str| {
            let parsed = if text.is_empty() { Ok(None) } else { text.parse().map(Some) };
            parsed.map_err(|error| Refusal::bad(format!("`after`: {error}")))
        };
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "after" => asked.after = cursor(&value)?,
                "wait" => {
                    let text: StrDeserializer<'_, ValueError> = (*value).into_deserializer();
                    let wait = runcast_runtime::duration::deserialize(text);
                    asked.wait =
                        wait.map_err(|error| Refusal::bad(format!("`wait`: {error}")))?.min(MAX_WAIT);
                }
                _ => return Err(Refusal::bad("the parameters are `after` and `wait`")),
            }
        }
        if let Some(header) = headers.get("last-event-id") {
            let text = header.to_str().map_err(|_| Refusal::bad("Last-Event-ID is not ASCII"))?;
            asked.after = cursor(text)?.or(asked.after);
        }
        Ok(asked)
    }
}

pub(super) async fn answer(api: &Api, request: Request<Incoming>) -> Response<Body> {
    let query = request.uri().query().unwrap_or_default();
    let asked = match Asked::parse(query, request.headers()) {
        Ok(asked) => asked,
        Err(refusal) => return refusal.answer(),
    };
    if api.phases.finished().is_some() {
        // No more commands will come; EventSource does not come back after this.
        return with_status(StatusCode::NO_CONTENT, empty());
    }
    let accepts = request.headers().get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let known = api.until_known().await;
    let listener = Listener::new(api.clone(), asked.after);
    if accepts.contains("application/json") {
        return match known {
            Ok(()) => listener.poll(asked.wait).await,
            Err(refusal) => refusal.answer(),
        };
    }
    let mut response = with_status(StatusCode::OK, listener.into_body());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    response
}

fn with_status(status: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

/// Somebody who is told what comes after a cursor.
struct Listener {
    api: Api,
    changes: watch::Receiver<()>,
    /// Where they stand; none until it is known what there is. Who has no cursor of their own and is
    /// answered misses nothing that comes after.
    cursor: Option<Cursor>,
    said_retry: bool,
}

impl Listener {
    fn new(api: Api, cursor: Option<Cursor>) -> Self {
        let changes = api.desk.changes();
        let cursor = cursor.or_else(|| api.desk.is_known().then(|| api.desk.inbox().beginning()));
        Self { api, changes, cursor, said_retry: false }
    }

    /// Waits for the next that there is to tell; none if nothing more will come.
    async fn next(&mut self) -> Option<Vec<(Cursor, Item)>> {
        let told = async {
            self.api.desk.until_known().await;
            loop {
                let items = {
                    let inbox = self.api.desk.inbox();
                    let cursor = self.cursor.get_or_insert_with(|| inbox.beginning());
                    inbox.after(cursor)
                };
                if !items.is_empty() {
                    let cursor = self.cursor.get_or_insert_default();
                    let placed = items.into_iter().map(|item| {
                        let (lane, sequence) = item.position();
                        cursor.set(&lane, sequence);
                        (cursor.clone(), item)
                    });
                    return placed.collect();
                }
                // The sender lives in the desk.
                let _ = self.changes.changed().await;
            }
        };
        tokio::select! {
            biased;
            () = self.api.shutdown.triggered() => None,
            items = told => Some(items),
            () = self.api.phases.until_finished() => None,
        }
    }

    /// `{"cursor":"…","events":[{"event":"command",…},…]}`
    async fn poll(mut self, wait: Duration) -> Response<Body> {
        let items = timeout_at(Instant::now() + wait, self.next()).await.ok().flatten().unwrap_or_default();
        let events: Vec<Value> = items
            .into_iter()
            .map(|(_, item)| {
                let (name, mut data) = event(&item);
                data["event"] = name.into();
                data
            })
            .collect();
        json(StatusCode::OK, &json!({ "cursor": self.cursor, "events": events }))
    }

    fn into_body(self) -> Body {
        let frames = stream::unfold(self, async |mut listener: Self| {
            let bytes = tokio::select! {
                items = listener.next() => listener.frames(&items?),
                () = sleep(HEARTBEAT) => Bytes::from_static(sse::HEARTBEAT),
            };
            Some((Ok(Frame::data(bytes)), listener))
        });
        StreamBody::new(frames).boxed_unsync()
    }

    fn frames(&mut self, items: &[(Cursor, Item)]) -> Bytes {
        let mut out = Vec::new();
        if !std::mem::replace(&mut self.said_retry, true) {
            sse::write_retry(&mut out, RETRY);
        }
        for (cursor, item) in items {
            let (name, data) = event(item);
            sse::write_id(&mut out, &cursor.to_string());
            // JSON has no line ends.
            out.extend_from_slice(format!("event: {name}\ndata: {data}\n\n").as_bytes());
        }
        out.into()
    }
}

/// The event's name, and its data.
fn event(item: &Item) -> (&'static str, Value) {
    match item {
        Item::Order(order) => ("command", command(order)),
        Item::Letter(letter) => (
            "message",
            json!({ "from": letter.from, "payload": letter.payload, "sequence": letter.sequence }),
        ),
        Item::Gap(gap) => ("gap", json!(gap)),
    }
}

/// `{"command":"c1","action":"stop","grace_ms":5000,"deadline":"…","caller":"anna","sequence":7}`
fn command(order: &Order) -> Value {
    #[derive(serde::Serialize)]
    struct Command<'a> {
        command: &'a CommandId,
        #[serde(flatten)]
        action: &'a Action,
        deadline: timestamp::Text,
        caller: &'a str,
        sequence: runcast_protocol::Sequence,
    }
    let issued = &order.issued;
    json!(Command {
        command: &issued.command,
        action: &issued.action,
        deadline: timestamp::Text(issued.deadline),
        caller: &issued.caller,
        sequence: order.sequence,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_read_or_refused() {
        let parsed = |query: &str| Asked::parse(query, &HeaderMap::new());
        let after = |text: &str| Some(text.parse().unwrap());
        assert_eq!(parsed("").unwrap(), Asked { after: None, wait: Duration::ZERO });
        let asked = Asked { after: after("@control:0.0.0.0.7"), wait: Duration::from_secs(20) };
        assert_eq!(parsed("after=%40control:0.0.0.0.7&wait=20s").unwrap(), asked);
        assert_eq!(parsed("wait=2h").unwrap().wait, MAX_WAIT);
        for bad in ["after=x", "wait=5", "wait=-1s", "from=now"] {
            assert!(parsed(bad).is_err(), "{bad}");
        }
        let mut headers = HeaderMap::new();
        headers.insert("last-event-id", HeaderValue::from_static("b:0.0.0.0.2"));
        assert_eq!(Asked::parse("after=c:1", &headers).unwrap().after, after("b:0.0.0.0.2"));
    }
}
