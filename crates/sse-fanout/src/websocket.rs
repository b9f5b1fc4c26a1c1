//! A viewer over a WebSocket (RFC 6455), for those whom Server-Sent Events do not suit.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::header::{
    CONNECTION, HOST, HeaderName, HeaderValue, ORIGIN, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::request::Parts;
use http::{HeaderMap, Response, StatusCode, Version};
use runcast_protocol::{sse, websocket};
use runcast_runtime::cors::Cors;
use runcast_runtime::http::{Body, UpgradedIo, empty, problem};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::CapacityError;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

use crate::viewer::{Present, Viewer, ViewerContext};

/// Most bytes of a message from a viewer; there is nothing that a viewer has to say.
const MAX_INCOMING: usize = 4 * 1024;
/// Messages that are there together go out in writes of about so many bytes. Besides these only the
/// message that is being written is held for a viewer.
const JOINED: usize = 16 * 1024;
/// How long a viewer may take to answer our close.
const GOODBYE: Duration = Duration::from_secs(5);

type Socket = WebSocketStream<UpgradedIo>;

/// The answer that begins a WebSocket, unless the request is none or its page may not read.
///
/// # Errors
/// The answer that says why not.
pub fn accept(head: &Parts, cors: &Cors) -> Result<Response<Body>, Box<Response<Body>>> {
    let is_upgrade = head.version == Version::HTTP_11
        && has_token(&head.headers, &CONNECTION, "upgrade")
        && has_token(&head.headers, &UPGRADE, "websocket");
    if !is_upgrade || head.headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        let detail = "connect here with a WebSocket, version 13, over HTTP/1.1; \
                      a run's events are also at /v1/runs/{run_id}/events";
        let mut refusal = problem(StatusCode::UPGRADE_REQUIRED, detail);
        refusal.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
        refusal.headers_mut().insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        return Err(Box::new(refusal));
    }
    let Some(key) = head.headers.get(SEC_WEBSOCKET_KEY) else {
        return Err(Box::new(problem(StatusCode::BAD_REQUEST, "Sec-WebSocket-Key is missing")));
    };
    if !may_read(&head.headers, cors) {
        let detail = "pages of this origin may not read; cors.origins says which may";
        return Err(Box::new(problem(StatusCode::FORBIDDEN, detail)));
    }
    let mut response = Response::new(empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    let accepted = HeaderValue::from_str(&derive_accept_key(key.as_bytes()));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accepted.expect("base64 is ASCII"));
    Ok(response)
}

/// Browsers let any page open a WebSocket anywhere, and leave it to the server to look at who asks.
fn may_read(headers: &HeaderMap, cors: &Cors) -> bool {
    let Some(origin) = headers.get(ORIGIN) else { return true };
    let own = headers.get(HOST).and_then(|host| host.to_str().ok());
    let host = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, host)| host);
    cors.admits(origin) || (host.is_some() && host == own)
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|item| item.trim().eq_ignore_ascii_case(token))
}

/// Shows a viewer its run, and says on closing whether to come back.
pub async fn stream(context: Arc<ViewerContext>, viewer: Viewer, present: Present, io: UpgradedIo) {
    let config = WebSocketConfig::default()
        .read_buffer_size(MAX_INCOMING)
        .write_buffer_size(JOINED)
        .max_message_size(Some(MAX_INCOMING))
        .max_frame_size(Some(MAX_INCOMING));
    let mut socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
    let viewer = viewer.seen(present.seen());
    if let Some(farewell) = show(&context, viewer, &mut socket).await {
        let goodbye = async {
            socket.close(Some(farewell)).await?;
            while socket.next().await.transpose()?.is_some() {}
            Ok::<_, Error>(())
        };
        // Whoever does not answer is left without ceremony.
        let _ = tokio::time::timeout(GOODBYE, goodbye).await;
    }
}

/// Shows until there is something to say on closing; none if the viewer has left.
async fn show(context: &ViewerContext, mut viewer: Viewer, socket: &mut Socket) -> Option<CloseFrame> {
    let mut is_over = false;
    // A `retry:` that comes ahead of its frame.
    let mut ahead = Bytes::new();
    loop {
        let bytes = tokio::select! {
            biased;
            incoming = socket.next() => match incoming? {
                // What a viewer says is of no interest, and the library answers pings and closes.
                Ok(_) => continue,
                Err(Error::Capacity(CapacityError::MessageTooLong { .. })) => {
                    return Some(close(CloseCode::Size, "at most 4 KiB".to_owned()));
                }
                Err(_) => return None,
            },
            bytes = viewer.next() => bytes,
        };
        let Some(mut bytes) = bytes else { break };
        if bytes == sse::HEARTBEAT {
            socket.send(Message::Ping(Bytes::new())).await.ok()?;
            continue;
        }
        if !ahead.is_empty() {
            bytes = [std::mem::take(&mut ahead), bytes].concat().into();
        }
        if !bytes.ends_with(b"\n\n") {
            ahead = bytes;
            continue;
        }
        for message in websocket::messages(&bytes) {
            is_over |= message.is_end;
            let text = Utf8Bytes::try_from(Bytes::from(message.json)).ok()?;
            socket.feed(Message::Text(text)).await.ok()?;
        }
        socket.flush().await.ok()?;
    }
    Some(if let Some(denied) = viewer.dismissed() {
        close(CloseCode::Policy, denied.reason().to_owned())
    } else if is_over {
        close(CloseCode::Normal, "the run is over".to_owned())
    } else {
        let retry = context.drain.farewell().retry(context.retry).unwrap_or(context.retry);
        close(CloseCode::Away, format!("retry={}", retry.as_millis()))
    })
}

fn close(code: CloseCode, reason: String) -> CloseFrame {
    CloseFrame { code, reason: reason.into() }
}
