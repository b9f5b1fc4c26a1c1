//! `GET /v1/runs/{run_id}/messages`: a page of a run's messages, or all of them as a stream.

use bytes::Bytes;
use futures_util::stream;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, LINK, VARY};
use http::{HeaderMap, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use runcast_protocol::{Gap, RunId};
use runcast_runtime::http::{Body, empty, full};
use serde_json::json;

use crate::config::HistoryConfig;
use crate::context::Context;
use crate::error::Error;
use crate::history::text::text;
use crate::history::{Filter, Next, Reading, RunHistory};
use crate::query::{Format, From, MessagesQuery};
use crate::tag::Tag;

/// Says where the next page begins.
const NEXT: HeaderName = HeaderName::from_static("runcast-next");
/// A page that weighs so much is full, however few messages it holds.
const PAGE_BYTES: usize = 16 << 20;
/// What a stream sends at once, about.
const BLOCK_BYTES: usize = 64 << 10;

/// Answers with a page of messages, all of them, or an agent's words.
///
/// # Errors
/// [`Error`] if the query is wrong, or the run is not known or cannot be read.
pub async fn messages(
    context: &Context,
    config: &HistoryConfig,
    run: &RunId,
    query: &str,
    headers: &HeaderMap,
) -> Result<Response<Body>, Error> {
    let asked = MessagesQuery::parse(query, headers, config)?;
    let history = RunHistory::open(context, run).await?;
    let is_final = RunHistory::is_final(&history.states().await?);
    // The same query over the same messages is answered the same.
    let tag = Tag::of(&(run.as_str(), query, asked.format as u8, history.end().to_string()));
    let mut response = if tag.is_known(headers) {
        let mut response = Response::new(empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else if asked.format == Format::Text {
        text(&history, &asked, headers, &tag).await?
    } else {
        let reading = reading(&history, &asked);
        match asked.limit {
            Some(limit) => page(reading, &asked, limit, config, query).await?,
            None => everything(reading, asked),
        }
    };
    let caching = if is_final { "private, max-age=31536000, immutable" } else { "private, no-cache" };
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(caching));
    headers.append(VARY, HeaderValue::from_static("Accept"));
    if let Some(tag) = tag.header() {
        headers.insert(ETAG, tag);
    }
    Ok(response)
}

fn reading(history: &RunHistory, asked: &MessagesQuery) -> Reading {
    let lanes = history.lanes(&asked.filter.selection);
    match &asked.from {
        From::After(cursor) => Reading::forwards(history, lanes, cursor.clone(), asked.span, false),
        From::Before(cursor) => {
            let cursor = cursor.as_ref().unwrap_or_else(|| history.end());
            Reading::backwards(history, lanes, cursor.clone(), asked.span)
        }
    }
}

async fn page(
    mut reading: Reading,
    asked: &MessagesQuery,
    limit: usize,
    config: &HistoryConfig,
    query: &str,
) -> Result<Response<Body>, Error> {
    let mut lines = Vec::new();
    let (mut count, mut scanned, mut bytes) = (0, 0, 0);
    let mut cursor = reading.cursor().clone();
    let mut is_last = true;
    while let Some(next) = reading.next().await? {
        if count == limit || scanned == config.max_scan || bytes >= PAGE_BYTES {
            is_last = false;
            break;
        }
        cursor.clone_from(reading.cursor());
        scanned += 1;
        let (mut said, is_message) = say(next, &asked.filter);
        if matches!(asked.from, From::Before(_)) {
            said.reverse();
        }
        count += usize::from(is_message);
        bytes += said.iter().map(Bytes::len).sum::<usize>();
        lines.extend(said);
    }
    let next = (!is_last).then(|| cursor.to_string());
    let mut response = Response::new(if asked.format == Format::Json {
        let mut body = b"{\"messages\":[".to_vec();
        body.extend(lines.join(&b","[..]));
        body.extend(format!("],\"next\":{}}}", json!(next)).into_bytes());
        full(body)
    } else {
        let mut body = Vec::with_capacity(bytes + lines.len());
        for line in lines {
            body.extend_from_slice(&line);
            body.push(b'\n');
        }
        full(body)
    });
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, content_type(asked.format));
    if let Some(next) = next {
        let link = format!("<?{}>; rel=\"next\"", onwards(query, &asked.from, &next));
        // Both are made of characters that headers may hold.
        for (name, value) in [(NEXT, next), (LINK, link)] {
            if let Ok(value) = value.parse() {
                headers.insert(name, value);
            }
        }
    }
    Ok(response)
}

/// All there is, as it is read. An error cuts the connection: what was sent must not look whole.
fn everything(reading: Reading, asked: MessagesQuery) -> Response<Body> {
    let (json, backwards) = (asked.format == Format::Json, matches!(asked.from, From::Before(_)));
    let begin = if json { &b"{\"messages\":["[..] } else { b"" };
    let state = Some((reading, asked.filter, begin.to_vec(), false));
    let blocks = stream::try_unfold(state, move |state| async move {
        let Some((mut reading, filter, mut block, mut begun)) = state else { return Ok(None) };
        while block.len() < BLOCK_BYTES {
            let Some(next) = reading.next().await? else {
                block.extend(if json { &b"],\"next\":null}"[..] } else { b"" });
                return Ok(Some((Frame::data(block.into()), None)));
            };
            let mut lines = say(next, &filter).0;
            if backwards {
                lines.reverse();
            }
            for line in lines {
                if json && begun {
                    block.push(b',');
                }
                begun = true;
                block.extend(line);
                if !json {
                    block.push(b'\n');
                }
            }
        }
        Ok::<_, Error>(Some((Frame::data(block.into()), Some((reading, filter, Vec::new(), begun)))))
    });
    let mut response = Response::new(StreamBody::new(blocks).map_err(report).boxed_unsync());
    response.headers_mut().insert(CONTENT_TYPE, content_type(asked.format));
    response
}

/// Logs why an answer is cut off.
pub(super) fn report(error: Error) -> Box<dyn std::error::Error + Send + Sync> {
    tracing::warn!(%error, "an answer was cut off");
    error.into()
}

/// The lines to write of what comes next, and whether a message is among them.
fn say(next: Next, filter: &Filter) -> (Vec<Bytes>, bool) {
    let gap = next.said.gap.as_ref().map(gap_line);
    let message = next.said.entry.filter(|entry| filter.wants(entry)).map(|entry| entry.line);
    let is_message = message.is_some();
    (gap.into_iter().chain(message).collect(), is_message)
}

/// A gap among messages: it has their `type`, and says the lane and what is missing of it.
fn gap_line(gap: &Gap) -> Bytes {
    let Gap { lane, first, last, reason } = gap;
    json!({"type": "gap", "lane": lane.to_string(), "first": first, "last": last, "reason": reason})
        .to_string()
        .into()
}

fn content_type(format: Format) -> HeaderValue {
    HeaderValue::from_static(if format == Format::Json { "application/json" } else { "application/x-ndjson" })
}

/// The query that asks for the next page.
fn onwards(query: &str, from: &From, next: &str) -> String {
    let place = if matches!(from, From::After(_)) { "after" } else { "before" };
    let kept = form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name != place);
    form_urlencoded::Serializer::new(String::new()).extend_pairs(kept).append_pair(place, next).finish()
}
