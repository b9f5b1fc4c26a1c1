//! The archive over HTTP: what is in it, whether it is whole, and its removal.

use http::{Response, StatusCode};
use runcast_protocol::timestamp::Text as Time;
use runcast_protocol::{Cursor, Gap, Lane, RunId, Sequence};
use runcast_runtime::http::{Body, empty, json, problem};
use serde::Serialize;

use super::checksum::Sha256;
use super::{Archive, ArchiveError, ArchivedRun, Commit, Removed, export as file};
use crate::context::Context;
use crate::error::Error;

/// Runs on one page, if the client does not say, and at most.
const PAGE: (usize, usize) = (100, 1000);

/// An archived run, as it is listed.
#[derive(Debug, Serialize)]
struct Listed<'a> {
    run_id: &'a RunId,
    segments: usize,
    messages: u64,
    bytes: u64,
    raw_bytes: u64,
    first_time: Option<Time>,
    last_time: Option<Time>,
    complete: bool,
    archived_at: Time,
}

/// The same with all that is known of it.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    listed: Listed<'a>,
    cursor: &'a Cursor,
    gaps: Vec<&'a Gap>,
    segment_list: Vec<ShownSegment<'a>>,
}

#[derive(Debug, Serialize)]
struct ShownSegment<'a> {
    name: &'a str,
    bytes: u64,
    sha256: &'a Sha256,
    messages: u64,
    raw_bytes: u64,
    lanes: Vec<ShownLane<'a>>,
}

#[derive(Debug, Serialize)]
struct ShownLane<'a> {
    lane: &'a Lane,
    first: Sequence,
    last: Sequence,
}

/// `GET /v1/archive?prefix=&limit=&page_token=`
///
/// # Errors
/// [`Error`] if a parameter is wrong, or the archive cannot be read.
pub async fn list(
    context: &Context,
    query: Option<&str>,
    is_shown: impl Fn(&RunId) -> bool + Send,
) -> Result<Response<Body>, Error> {
    let (mut prefix, mut limit, mut after) = (String::new(), PAGE.0, String::new());
    for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        match &*name {
            "prefix" => prefix = value.into_owned(),
            "page_token" => after = value.into_owned(),
            "limit" => {
                let number = value.parse().ok().filter(|number| (1..=PAGE.1).contains(number));
                limit =
                    number.ok_or_else(|| Error::bad("limit", format!("a number from 1 to {}", PAGE.1)))?;
            }
            other => {
                return Err(Error::bad(other, "no such parameter; there are prefix, limit and page_token"));
            }
        }
    }
    if !after.is_empty() {
        RunId::new(&after).map_err(|_| Error::bad("page_token", "use next_page_token as it came"))?;
    }
    let all = context.archive.runs().await?;
    let mut wanted =
        all.iter().filter(|run| run.as_str().starts_with(&prefix) && run.as_str() > &*after && is_shown(run));
    let (mut listed, mut next) = (Vec::new(), "");
    for run in wanted.by_ref() {
        // One that cannot be read is shown as such when it is asked for; it does not hide the others.
        match context.archive.run(run).await {
            Ok(Some(archived)) => listed.push(serde_json::json!(Listed::of(&archived))),
            Ok(None) => {}
            Err(error @ (ArchiveError::Damaged(_) | ArchiveError::Version(_))) => {
                listed.push(serde_json::json!({ "run_id": run, "error": error.to_string() }));
            }
            Err(error) => return Err(error.into()),
        }
        if listed.len() == limit {
            next = run.as_str();
            break;
        }
    }
    if wanted.next().is_none() {
        next = "";
    }
    Ok(json(StatusCode::OK, &serde_json::json!({ "runs": listed, "next_page_token": next })))
}

/// `GET /v1/archive/{run_id}`
///
/// # Errors
/// [`Error`] if nothing is archived of it, or the archive cannot be read.
pub async fn show(context: &Context, run: &RunId) -> Result<Response<Body>, Error> {
    let archived = context.archive.run_now(run).await?.ok_or_else(|| missing(&context.archive, run))?;
    let segment_list = archived.commits().iter().filter_map(|commit| ShownSegment::of(commit)).collect();
    let (listed, gaps) = (Listed::of(&archived), archived.gaps().collect());
    Ok(json(StatusCode::OK, &Shown { listed, cursor: archived.cursor(), gaps, segment_list }))
}

/// `POST /v1/archive/{run_id}/verify`: reads all of it.
///
/// # Errors
/// [`Error`] if nothing is archived of it, or the store fails.
pub async fn verify(context: &Context, run: &RunId) -> Result<Response<Body>, Error> {
    let verdict = context.archive.verify(run).await?.ok_or_else(|| missing(&context.archive, run))?;
    Ok(json(StatusCode::OK, &verdict))
}

/// `DELETE /v1/archive/{run_id}`. Refused while Redis has the run too: it would be archived anew.
///
/// # Errors
/// [`Error`] if nothing is archived of it, or the store fails.
pub async fn remove(context: &Context, run: &RunId) -> Result<Response<Body>, Error> {
    let lanes = context.bus.lanes(run).await?;
    // What cannot be read can be removed.
    let archived = context.archive.run_now(run).await.unwrap_or_default();
    if let Some(archived) = archived {
        let position = |lane: &Lane| lanes.get(lane).map(|state| state.last).unwrap_or_default();
        if !lanes.is_empty() && archived.cursor().lanes().all(|(lane, last)| position(&lane) >= last) {
            return Ok(problem(
                StatusCode::CONFLICT,
                format!(
                    "redis still has run {run}, so it would be archived again: delete it there first \
                     (DeleteRun of runcast-control), or wait until its time there is over"
                ),
            ));
        }
    }
    match context.archive.remove(run).await? {
        Removed::NotThere => Err(missing(&context.archive, run)),
        Removed::Yes => {
            tracing::info!(%run, "removed an archived run because a client said so");
            let mut response = Response::new(empty());
            *response.status_mut() = StatusCode::NO_CONTENT;
            Ok(response)
        }
    }
}

/// `GET /v1/runs/{run_id}/export?format=parquet`: all that the archive and Redis have of it, as one file.
///
/// # Errors
/// [`Error`] if a parameter is wrong, or nothing is known of the run.
pub async fn export(context: &Context, run: &RunId, query: Option<&str>) -> Result<Response<Body>, Error> {
    let mut format = None;
    for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        match &*name {
            "format" => format = Some(value.into_owned()),
            other => return Err(Error::bad(other, "no such parameter; there is format")),
        }
    }
    if format.as_deref() != Some("parquet") {
        return Err(Error::bad("format", "parquet is the one there is; see …/messages for others"));
    }
    file::response(context, run).await
}

impl<'a> Listed<'a> {
    fn of(archived: &'a ArchivedRun) -> Self {
        let segments: Vec<_> =
            archived.commits().iter().filter_map(|commit| commit.segment.as_ref()).collect();
        let groups = || segments.iter().flat_map(|segment| &segment.row_groups);
        let micros = |time: &Time| time.0;
        Self {
            run_id: archived.id(),
            segments: segments.len(),
            messages: segments.iter().map(|segment| segment.rows).sum(),
            bytes: segments.iter().map(|segment| segment.bytes).sum(),
            raw_bytes: segments.iter().map(|segment| segment.raw_bytes).sum(),
            first_time: groups().filter_map(|group| group.first_time).min_by_key(micros),
            last_time: groups().filter_map(|group| group.last_time).max_by_key(micros),
            complete: archived.is_complete(),
            archived_at: archived.archived_at(),
        }
    }
}

impl<'a> ShownSegment<'a> {
    fn of(commit: &'a Commit) -> Option<Self> {
        let segment = commit.segment.as_ref()?;
        let mut lanes: Vec<ShownLane<'_>> = Vec::new();
        for group in &segment.row_groups {
            match lanes.last_mut().filter(|lane| *lane.lane == group.lane) {
                Some(lane) => lane.last = group.last,
                None => lanes.push(ShownLane { lane: &group.lane, first: group.first, last: group.last }),
            }
        }
        let (name, sha256) = (&*segment.name, &segment.sha256);
        let (bytes, messages, raw_bytes) = (segment.bytes, segment.rows, segment.raw_bytes);
        Some(Self { name, bytes, sha256, messages, raw_bytes, lanes })
    }
}

fn missing(archive: &Archive, run: &RunId) -> Error {
    Error::NotFound(if archive.is_configured() {
        format!("nothing is archived of run {run}")
    } else {
        "nothing is archived here: archive.url is empty".to_owned()
    })
}
