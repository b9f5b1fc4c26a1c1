//! `GET /v1/runs/{run_id}/replay`: a run as it happened, over Server-Sent Events.

use std::convert::Infallible;

use futures_util::stream;
use http::{HeaderMap, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use runcast_protocol::{Cursor, RunId, Sequence};
use runcast_runtime::http::{Body, empty, event_stream};

use crate::context::Context;
use crate::error::Error;
use crate::history::player::Player;
use crate::history::{Filter, Pace, Reading, RunHistory};
use crate::query::{ReplayFrom, ReplayQuery};

/// Begins a replay. Who comes back with a cursor that covers a run that is over gets 204, which is what
/// makes EventSource stop.
///
/// # Errors
/// [`Error`] if the query is wrong, or the run is not known or cannot be read.
pub async fn replay(
    context: &Context,
    run: &RunId,
    query: &str,
    headers: &HeaderMap,
) -> Result<Response<Body>, Error> {
    let asked = ReplayQuery::parse(query, headers)?;
    let history = RunHistory::open(context, run).await?;
    let end = history.states().await?.end(run, &asked.selection);
    let (cursor, since) = match &asked.from {
        ReplayFrom::After(cursor) => (asked.selection.restrict(cursor), None),
        ReplayFrom::Time(time) => (Cursor::default(), Some(*time)),
    };
    let lanes = history.lanes(&asked.selection);
    let is_seen = cursor != Cursor::default()
        && lanes.iter().all(|lane| cursor.position(lane) >= history.end().position(lane));
    if is_seen && end.is_some() {
        let mut response = Response::new(empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        return Ok(response);
    }
    let span = (Sequence::NONE.next(), Sequence::MAX);
    let reading = Reading::forwards(&history, lanes, cursor, span, asked.speed.is_some());
    let filter = Filter { selection: asked.selection, since, ..Filter::default() };
    let pace = Pace::new(asked.speed, asked.max_silence);
    let player = Player::new(reading, filter, end, pace, context.shutdown.clone());
    let frames = stream::unfold(player, |mut player| async {
        let bytes = player.next().await?;
        Some((Ok::<_, Infallible>(Frame::data(bytes)), player))
    });
    Ok(event_stream(StreamBody::new(frames).map_err(|never| match never {}).boxed_unsync()))
}
