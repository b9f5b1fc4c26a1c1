//! What is answered about runs as a whole: `GET /v1/runs`, `GET /v1/runs/{run_id}` and
//! `POST /v1/runs/{run_id}/rebuild`.

use std::sync::Arc;

use http::header::{CACHE_CONTROL, ETAG};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use runcast_protocol::RunId;
use runcast_runtime::http::{Body, empty, json};
use serde::Serialize;

use super::catalog::Order;
use super::list::{ListRequest, unknown};
use super::rebuild::{Rebuilt, fold_anew};
use super::report::RunSummary;
use super::work::{Turn, Work};
use crate::context::Context;
use crate::error::Error;
use crate::tag::Tag;

/// `GET /v1/runs`, of the runs that may be shown.
///
/// # Errors
/// [`Error::BadRequest`] if a parameter is wrong.
pub fn list(
    context: &Context,
    query: &str,
    is_shown: impl Fn(&RunId) -> bool,
) -> Result<Response<Body>, Error> {
    let mut runs = context.catalog.all();
    runs.retain(|run| is_shown(&run.run_id));
    let listing = ListRequest::parse(query)?.answer(runs);
    Ok(fresh(json(StatusCode::OK, &listing)))
}

/// `GET /v1/runs/{run_id}`
///
/// # Errors
/// [`Error::UnknownRun`] if neither Redis nor the archive knows it; others if they cannot be asked.
pub async fn show(
    context: &Context,
    run: &RunId,
    query: &str,
    headers: &HeaderMap,
) -> Result<Response<Body>, Error> {
    no_parameters(query)?;
    let summary = match context.catalog.get(run) {
        Some(summary) => summary,
        None => find(context, run).await?,
    };
    context.catalog.order(run, Order::Look);
    let mut response = fresh(json(StatusCode::OK, &*summary));
    let tag = Tag::of(&serde_json::to_vec(&*summary).unwrap_or_default());
    if let Some(value) = tag.header() {
        response.headers_mut().insert(ETAG, value);
    }
    if tag.is_known(headers) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        *response.body_mut() = empty();
    }
    Ok(response)
}

/// `POST /v1/runs/{run_id}/rebuild`
///
/// # Errors
/// [`Error::UnknownRun`] if neither Redis nor the archive knows it; others if they cannot be asked.
pub async fn rebuild(context: &Context, run: &RunId, query: &str) -> Result<Response<Body>, Error> {
    #[derive(Serialize)]
    struct Answer<'a> {
        equal: bool,
        replaced: bool,
        summary: &'a RunSummary,
    }
    no_parameters(query)?;
    let Rebuilt { equal, replaced, summary } = fold_anew(context, run).await?;
    Ok(fresh(json(StatusCode::OK, &Answer { equal, replaced, summary: &summary })))
}

/// A run that the catalog does not know, perhaps only not yet.
async fn find(context: &Context, run: &RunId) -> Result<Arc<RunSummary>, Error> {
    if Work::new(run.clone()).turn(context).await? == Turn::Gone {
        let archived = context.archive.run(run).await?.ok_or_else(|| Error::UnknownRun(run.clone()))?;
        return Ok(context.catalog.put(RunSummary::of(run, archived.summary(), true)));
    }
    context.catalog.get(run).ok_or_else(|| Error::UnknownRun(run.clone()))
}

pub(super) fn no_parameters(query: &str) -> Result<(), Error> {
    let mut names = form_urlencoded::parse(query.as_bytes()).map(|(name, _)| name);
    names.find(|name| !name.starts_with('_')).map_or(Ok(()), |name| Err(unknown(&name)))
}

/// It may change at any time.
pub(super) fn fresh(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}
