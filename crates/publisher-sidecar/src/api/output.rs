//! `POST /v1/output`: text, published as it comes.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use runcast_protocol::{Channel, Sequence};
use runcast_runtime::Shutdown;
use runcast_runtime::http::{Body, json};
use serde::Serialize;
use tokio::time::{Instant, sleep_until};

use super::Api;
use super::answer::Refusal;
use crate::draft::Draft;
use crate::metadata::Metadata;
use crate::utf8::Utf8Decoder;

/// Once we were told to stop, a stream that is silent for so long has said what it had to say.
const LAST_WORDS: Duration = Duration::from_millis(200);

#[derive(Serialize)]
struct Said {
    lane: String,
    /// None if there was no text.
    first: Option<Sequence>,
    last: Option<Sequence>,
}

pub(super) async fn answer(api: &Api, request: Request<Incoming>) -> Response<Body> {
    let metadata = Metadata::from_headers(request.headers());
    say(api, request.into_body(), &metadata).await.unwrap_or_else(Refusal::answer)
}

async fn say(api: &Api, mut body: Incoming, metadata: &Metadata) -> Result<Response<Body>, Refusal> {
    let redactor = api.publisher.redactor();
    let (mut secrets, mut decoder) = (redactor.stream(), Utf8Decoder::default());
    let (mut first, mut last) = (None, None);
    loop {
        let silence = secrets.is_holding().then(|| Instant::now() + redactor.hold());
        let chunk = tokio::select! {
            biased;
            chunk = next_chunk(&mut body, &api.shutdown) => Some(chunk),
            // What may be a secret waits for the rest for as long as that.
            () = sleep_until(silence.unwrap_or_else(Instant::now)), if silence.is_some() => None,
        };
        let text = match &chunk {
            None => decoder.push(&redactor.count(secrets.expire())),
            Some(Ok(Some(bytes))) => decoder.push(&redactor.count(secrets.push(bytes))),
            Some(Ok(None) | Err(_)) => decoder.push(&redactor.count(secrets.finish())) + &decoder.finish(),
        };
        if !text.is_empty() {
            let receipt = api.publisher.publish(Draft::output(&text, metadata.to_json())).await?;
            if first.is_none() {
                first = Some(receipt);
            } else {
                last = Some(receipt);
            }
        }
        if let Some(chunk) = chunk
            && chunk?.is_none()
        {
            break;
        }
    }
    let lane = api.publisher.identity().lane(Channel::Output).to_string();
    let Some(first) = first else { return Ok(json(StatusCode::OK, &Said { lane, first: None, last: None })) };
    let last = last.as_ref().unwrap_or(&first).number().await;
    Ok(json(StatusCode::OK, &Said { lane, first: Some(first.number().await), last: Some(last) }))
}

/// The next bytes of a body; none at its end, or when it is silent while we stop.
pub(super) async fn next_chunk(body: &mut Incoming, shutdown: &Shutdown) -> Result<Option<Bytes>, Refusal> {
    let silence = async {
        shutdown.triggered().await;
        tokio::time::sleep(LAST_WORDS).await;
    };
    let data = async {
        loop {
            match body.frame().await.transpose() {
                // Trailers say nothing here.
                Ok(Some(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
                Ok(None) => return Ok(None),
                Err(error) => return Err(Refusal::bad(format!("the body breaks off: {error}"))),
            }
        }
    };
    tokio::select! {
        biased;
        chunk = data => chunk,
        () = silence => Ok(None),
    }
}

/// A whole body of at most `max` bytes.
pub(super) async fn collect(body: Incoming, max: usize) -> Result<Bytes, Refusal> {
    match Limited::new(body, max).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            let detail = format!("the body has more than {max} bytes");
            Err(Refusal { status: StatusCode::PAYLOAD_TOO_LARGE, detail })
        }
        Err(error) => Err(Refusal::bad(format!("the body breaks off: {error}"))),
    }
}
