//! An agent's words: the text of one output lane, as it said it, with ranges (RFC 9110 §14).

use std::ops::RangeInclusive;

use bytes::Bytes;
use futures_util::stream;
use http::header::{
    ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderValue, IF_RANGE, RANGE,
};
use http::{HeaderMap, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use http_range_header::parse_range_header;
use hyper::body::Frame;
use runcast_protocol::{Channel, Lane, Sequence};
use runcast_runtime::http::{Body, problem};

use crate::error::Error;
use crate::history::page::report;
use crate::history::{Chunk, LaneHistory, RunHistory, Said};
use crate::query::MessagesQuery;
use crate::tag::Tag;

/// Answers with what one variation said, whole or a range of it.
pub(super) async fn text(
    history: &RunHistory,
    asked: &MessagesQuery,
    headers: &HeaderMap,
    tag: &Tag,
) -> Result<Response<Body>, Error> {
    let lane = lane(history, asked)?;
    let end = history.end().position(&lane);
    // A range of what has changed meanwhile is no use: then all of it is wanted.
    let same = headers.get(IF_RANGE).is_none_or(|known| known.as_bytes() == tag.as_str().as_bytes());
    let range = headers.get(RANGE).and_then(|range| range.to_str().ok()).filter(|_| same);
    let mut response = if let Some(range) = range.and_then(|range| parse_range_header(range).ok()) {
        let length = length(history, &lane).await?;
        match range.validate(length).as_deref() {
            Ok([range]) => part(history, &lane, range, length).await?,
            // Several ranges at once are answered with the whole, as a server may.
            Ok(_) => whole(history.lane(lane, Sequence::NONE, end)),
            Err(_) => {
                let mut response = problem(
                    StatusCode::RANGE_NOT_SATISFIABLE,
                    format_args!("the text has {length} bytes so far"),
                );
                set(&mut response, CONTENT_RANGE, &format!("bytes */{length}"));
                return Ok(response);
            }
        }
    } else {
        whole(history.lane(lane, Sequence::NONE, end))
    };
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response.headers_mut().insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    Ok(response)
}

/// The one output lane that is asked for.
fn lane(history: &RunHistory, asked: &MessagesQuery) -> Result<Lane, Error> {
    let filter = &asked.filter;
    if filter.since.is_some() || filter.until.is_some() || filter.search.is_some() {
        return Err(Error::bad("format", "text is what the agent said, whole; for a choice take ndjson"));
    }
    let selection =
        runcast_protocol::Selection::new([Channel::Output].into(), filter.selection.variations().cloned());
    let lanes = history.lanes(&selection);
    let mut lanes = lanes.into_iter().filter(|lane| lane.writer.variation().is_some());
    match (lanes.next(), lanes.next()) {
        (Some(lane), None) => Ok(lane),
        (None, _) => Err(Error::NotFound("nothing was said there, at least not yet".into())),
        _ => Err(Error::bad("variations", "text is what one variation said: name it")),
    }
}

/// Length of a lane's text, in bytes.
async fn length(history: &RunHistory, lane: &Lane) -> Result<u64, Error> {
    let archived = history.archived.as_ref().map_or(0, |archived| archived.text_len(lane));
    let after = history.archived_upto(lane);
    let mut rest = history.lane(lane.clone(), after, history.end().position(lane));
    let mut length = archived;
    while let Some(chunk) = rest.next().await? {
        length += words(&chunk).len() as u64;
    }
    Ok(length)
}

async fn part(
    history: &RunHistory,
    lane: &Lane,
    range: &RangeInclusive<u64>,
    length: u64,
) -> Result<Response<Body>, Error> {
    let (after, before) = history
        .archived
        .as_ref()
        .map_or((Sequence::NONE, 0), |archived| archived.text_at(lane, *range.start()));
    let reader = history.lane(lane.clone(), after, history.end().position(lane));
    let wanted = range.end() - range.start() + 1;
    let mut response = Response::new(body(reader, range.start() - before, wanted));
    *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    set(&mut response, CONTENT_RANGE, &format!("bytes {}-{}/{length}", range.start(), range.end()));
    set(&mut response, CONTENT_LENGTH, &wanted.to_string());
    Ok(response)
}

fn whole(reader: LaneHistory) -> Response<Body> {
    Response::new(body(reader, 0, u64::MAX))
}

/// A lane's text from the byte `skip` on, at most `wanted` bytes.
fn body(reader: LaneHistory, skip: u64, wanted: u64) -> Body {
    let blocks =
        stream::try_unfold((reader, skip, wanted), |(mut reader, mut skip, mut wanted)| async move {
            while wanted > 0 {
                let Some(chunk) = reader.next().await? else { return Ok(None) };
                let mut text = Bytes::from(words(&chunk));
                let skipped = usize::try_from(skip).unwrap_or(usize::MAX).min(text.len());
                skip -= skipped as u64;
                text = text.slice(skipped..);
                text.truncate(usize::try_from(wanted).unwrap_or(usize::MAX));
                wanted -= text.len() as u64;
                if !text.is_empty() {
                    return Ok::<_, Error>(Some((Frame::data(text), (reader, skip, wanted))));
                }
            }
            Ok(None)
        });
    StreamBody::new(blocks).map_err(report).boxed_unsync()
}

fn words(chunk: &Chunk) -> String {
    chunk.entries.iter().filter_map(|entry| Said::read(&entry.line)).map(|said| said.text()).collect()
}

fn set(response: &mut Response<Body>, name: http::HeaderName, value: &str) {
    if let Ok(value) = value.parse() {
        response.headers_mut().insert(name, value);
    }
}
