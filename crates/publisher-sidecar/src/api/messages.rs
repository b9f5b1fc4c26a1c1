//! `POST /v1/messages`: whole messages; one, an array, or a stream of lines that may last for hours.

use bytes::{Buf, BytesMut};
use http::header::CONTENT_TYPE;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use runcast_runtime::http::{Body, json};
use serde::Serialize;

use super::answer::{Refusal, Taken};
use super::input::{self, Fields};
use super::{Api, output};
use crate::draft::Draft;
use crate::metadata::Metadata;

/// Most bytes of a JSON body; an array of more is better sent as lines.
const MAX_JSON: usize = 16 << 20;

pub(super) async fn answer(api: &Api, request: Request<Incoming>) -> Response<Body> {
    let metadata = Metadata::from_headers(request.headers());
    let content_type =
        request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let body = request.into_body();
    let answer = match media_type.as_str() {
        "application/json" => from_json(api, body, &metadata).await,
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" => {
            from_lines(api, body, &metadata).await
        }
        _ => Err(Refusal {
            status: StatusCode::UNSUPPORTED_MEDIA_TYPE,
            detail:
                "content-type must be application/json (one message or an array) or application/x-ndjson \
                     (one message a line)"
                    .into(),
        }),
    };
    answer.unwrap_or_else(Refusal::answer)
}

async fn from_json(api: &Api, body: Incoming, metadata: &Metadata) -> Result<Response<Body>, Refusal> {
    #[derive(Serialize)]
    struct One {
        lane: String,
        sequence: runcast_protocol::Sequence,
    }
    let identity = api.publisher.identity();
    let text = output::collect(body, MAX_JSON).await?;
    if !text.trim_ascii_start().starts_with(b"[") {
        let receipt = api.publisher.publish(input::parse(&text, identity, metadata)?).await?;
        let (lane, sequence) = (receipt.lane().to_string(), receipt.number().await);
        return Ok(json(StatusCode::OK, &One { lane, sequence }));
    }
    // All of them or, if one is malformed, none.
    let items: Vec<Fields> = input::from_json(&text)?;
    let numbered = items.into_iter().enumerate();
    let drafts = numbered.map(|(at, item)| {
        input::draft(item, identity, metadata)
            .map_err(|refusal| refusal.at(format_args!("message {}", at + 1)))
    });
    let drafts: Vec<Draft> = drafts.collect::<Result<_, _>>()?;
    let mut taken = Taken::default();
    for draft in drafts {
        let receipt = api.publisher.publish(draft).await;
        taken.add(receipt.map_err(|error| told(error.into(), taken.count() + 1, &taken))?);
    }
    Ok(taken.answer().await)
}

async fn from_lines(api: &Api, mut body: Incoming, metadata: &Metadata) -> Result<Response<Body>, Refusal> {
    let (mut buffer, mut line, mut taken) = (BytesMut::new(), 1, Taken::default());
    loop {
        let chunk = output::next_chunk(&mut body, &api.shutdown).await;
        let ends = !matches!(chunk, Ok(Some(_)));
        if let Ok(Some(bytes)) = &chunk {
            buffer.extend_from_slice(bytes);
        } else if chunk.is_ok() && !buffer.is_empty() {
            // The last line may lack its newline; one that was cut off is not taken.
            buffer.extend_from_slice(b"\n");
        }
        while let Some(end) = buffer.iter().position(|&b| b == b'\n') {
            let text = buffer.split_to(end);
            buffer.advance(1);
            take_line(api, &text, metadata, &mut taken)
                .await
                .map_err(|refusal| told(refusal, line, &taken))?;
            line += 1;
        }
        if buffer.len() > api.max_message {
            return Err(told(input::too_large(api.max_message), line, &taken));
        }
        if ends {
            return match chunk {
                Ok(_) => Ok(taken.answer().await),
                Err(refusal) => Err(told(refusal, line, &taken)),
            };
        }
    }
}

async fn take_line(api: &Api, text: &[u8], metadata: &Metadata, taken: &mut Taken) -> Result<(), Refusal> {
    // An empty line keeps a quiet connection alive.
    if text.trim_ascii().is_empty() {
        return Ok(());
    }
    if text.len() > api.max_message {
        return Err(input::too_large(api.max_message));
    }
    let draft = input::parse(text, api.publisher.identity(), metadata)?;
    taken.add(api.publisher.publish(draft).await?);
    Ok(())
}

fn told(refusal: Refusal, line: u64, taken: &Taken) -> Refusal {
    let mut refusal = refusal.at(format_args!("line {line}"));
    refusal.detail += &format!("; {} accepted before it", taken.count());
    refusal
}
