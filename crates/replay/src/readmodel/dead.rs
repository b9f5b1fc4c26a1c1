//! Dead letters over HTTP: messages that could never be stored, with the reason; and putting them back.

use http::{Response, StatusCode};
use runcast_bus::{BusError, DeadLetter, EntryId};
use runcast_protocol::{Lane, RunId, Sequence, timestamp};
use runcast_runtime::http::{Body, json, problem};
use serde::Serialize;

use super::answers::{fresh, no_parameters};
use super::list::{limit, unknown};
use crate::context::Context;
use crate::error::Error;

/// Letters of a page, if the client does not say, and at most.
const PAGE: usize = 100;
const MAX_PAGE: usize = 1000;
/// Bytes of letters that a page stops after: they may be dead because they were too large.
const PAGE_BYTES: usize = 4 << 20;
/// Letters that are read at once.
const AT_ONCE: u64 = 8;

#[derive(Serialize)]
struct Letter {
    id: String,
    reason: String,
    time: timestamp::Text,
    lane: Lane,
    sequence: Option<Sequence>,
    /// As it was; what is not UTF-8 in it is replaced.
    original: String,
}

#[derive(Serialize)]
struct Page {
    dead_letters: Vec<Letter>,
    /// What `after` the next page begins; none if there is nothing more now.
    next: Option<String>,
}

/// `GET /v1/runs/{run_id}/dead`
///
/// # Errors
/// [`Error::BadRequest`] if a parameter is wrong, [`Error::Bus`] if Redis cannot be asked.
pub async fn dead_letters(context: &Context, run: &RunId, query: &str) -> Result<Response<Body>, Error> {
    let (mut after, mut wanted) = (EntryId::default(), PAGE);
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "after" if value.is_empty() => {}
            "after" => after = letter_id("after", &value)?,
            "limit" => wanted = limit(&value, MAX_PAGE)?,
            _ if name.starts_with('_') => {}
            _ => return Err(unknown(&name)),
        }
    }
    let (mut found, mut bytes) = (Vec::new(), 0);
    let mut more = true;
    while more && found.len() < wanted && bytes < PAGE_BYTES {
        let letters = context.bus.dead_letters(run, after, AT_ONCE).await?;
        more = letters.len() as u64 == AT_ONCE;
        for (id, letter) in letters {
            if found.len() == wanted {
                more = true;
                break;
            }
            after = id;
            bytes += letter.original.len();
            found.push(told(id, letter));
        }
    }
    let next = found.last().filter(|_| more).map(|letter| letter.id.clone());
    Ok(fresh(json(StatusCode::OK, &Page { dead_letters: found, next })))
}

/// `POST /v1/runs/{run_id}/dead/{id}/requeue`
///
/// # Errors
/// [`Error::BadRequest`] if the ID is none, [`Error::NotFound`] if there is no such letter, [`Error::Bus`]
/// if Redis cannot be asked.
pub async fn requeue(context: &Context, run: &RunId, id: &str, query: &str) -> Result<Response<Body>, Error> {
    #[derive(Serialize)]
    struct Requeued {
        sequence: Sequence,
    }
    no_parameters(query)?;
    let id = letter_id("id", id)?;
    match context.bus.requeue_dead_letter(run, id).await {
        Ok(Some(sequence)) => Ok(json(StatusCode::OK, &Requeued { sequence })),
        Ok(None) => Err(Error::NotFound(format!("run {run} has no dead letter {id}"))),
        // It stays where it is, and always will.
        Err(BusError::Rejected(why)) => {
            Ok(problem(StatusCode::CONFLICT, format_args!("dead letter {id} cannot be put back: {why}")))
        }
        Err(error) => Err(error.into()),
    }
}

fn told(id: EntryId, letter: DeadLetter) -> Letter {
    Letter {
        id: id.to_string(),
        reason: letter.reason,
        time: timestamp::Text(letter.time),
        lane: letter.lane,
        sequence: letter.sequence,
        original: String::from_utf8_lossy(&letter.original).into_owned(),
    }
}

fn letter_id(name: &str, text: &str) -> Result<EntryId, Error> {
    text.parse().map_err(|_| Error::bad(name, "must be a dead letter's id, such as 1768041000123-0"))
}
