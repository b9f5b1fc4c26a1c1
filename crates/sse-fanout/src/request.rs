//! What a viewer asks for: the query and headers of `GET /v1/runs/{run_id}/events`.

use std::borrow::Cow;
use std::collections::BTreeSet;

use http::HeaderMap;
use runcast_protocol::{Channel, Cursor, RunId, Selection, VariationId};

use crate::error::BadRequest;

/// Most variations that one viewer may name.
const MAX_VARIATIONS: usize = 256;

/// The parameter with a ticket, see [`crate::tickets`].
const TICKET: &str = "ticket";

/// The ticket in a query, if there is one.
pub fn ticket(query: &str) -> Option<Cow<'_, str>> {
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    pairs.find(|(name, _)| name == TICKET).map(|(_, ticket)| ticket)
}

/// What a viewer asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventsRequest {
    /// The run; it need not exist yet.
    pub run: RunId,
    /// What of it.
    pub selection: Selection,
    /// Where to begin.
    pub begin: Begin,
    /// Which messages are merged.
    pub merge: Merge,
}

/// Where adjacent messages of output are told as one, see [`runcast_protocol::merge`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Merge {
    /// Nowhere: each as it was said.
    Never,
    /// While the viewer is behind.
    #[default]
    Behind,
    /// Also live, where they come together.
    Always,
}

/// Where a stream begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begin {
    /// With what follows the cursor.
    After(Cursor),
    /// With the first message that is kept.
    Start,
    /// With what is said from now on.
    Now,
    /// With the text so far, at once.
    Snapshot,
}

impl EventsRequest {
    /// Reads the query and the `Last-Event-ID` header, which wins over `after`: EventSource
    /// reconnects with the same address. An empty cursor is none.
    ///
    /// # Errors
    /// [`BadRequest`] saying which parameter is wrong, and what it should be.
    pub fn parse(run: RunId, query: &str, headers: &HeaderMap) -> Result<Self, BadRequest> {
        let (mut channels, mut variations) = (None, None);
        let (mut begin, mut after, mut merge) = (Begin::Start, None, Merge::default());
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "channels" => channels = Some(list::<Channel>(&name, &value)?),
                "variations" => variations = Some(list::<VariationId>(&name, &value)?),
                "after" => after = cursor(&name, &value)?,
                "from" => begin = from(&value)?,
                "merge" => merge = merges(&value)?,
                // What let the viewer in, and what caches are fooled with.
                TICKET => {}
                _ if name.starts_with('_') => {}
                _ => return Err(BadRequest::unknown(&name)),
            }
        }
        if let Some(header) = headers.get("last-event-id") {
            let text = header.to_str().map_err(|_| BadRequest::new("Last-Event-ID", "is not ASCII"))?;
            after = cursor("Last-Event-ID", text)?.or(after);
        }
        if variations.as_ref().is_some_and(|named| named.len() > MAX_VARIATIONS) {
            return Err(BadRequest::new(
                "variations",
                format!("names more than {MAX_VARIATIONS}; leave it out for all"),
            ));
        }
        let selection = match channels {
            Some(channels) => Selection::new(channels, variations),
            None => Selection::new(Selection::default().channels().collect(), variations),
        };
        Ok(Self { run, selection, begin: after.map_or(begin, Begin::After), merge })
    }

    /// The cursor that the viewer came back with.
    pub fn cursor(&self) -> Option<&Cursor> {
        match &self.begin {
            Begin::After(cursor) => Some(cursor),
            _ => None,
        }
    }
}

fn list<T: std::str::FromStr<Err: std::fmt::Display> + Ord>(
    name: &str,
    value: &str,
) -> Result<BTreeSet<T>, BadRequest> {
    let items =
        value.split(',').map(|item| item.parse().map_err(|error: T::Err| BadRequest::new(name, error)));
    items.collect()
}

fn cursor(name: &str, value: &str) -> Result<Option<Cursor>, BadRequest> {
    let cursor: Cursor = value.parse().map_err(|error| BadRequest::new(name, error))?;
    Ok(Some(cursor).filter(|_| !value.is_empty()))
}

fn from(value: &str) -> Result<Begin, BadRequest> {
    match value {
        "start" => Ok(Begin::Start),
        "now" => Ok(Begin::Now),
        "snapshot" => Ok(Begin::Snapshot),
        _ => Err(BadRequest::new("from", "must be start, now or snapshot")),
    }
}

fn merges(value: &str) -> Result<Merge, BadRequest> {
    match value {
        "true" => Ok(Merge::Always),
        "false" => Ok(Merge::Never),
        _ => Err(BadRequest::new("merge", "must be true or false")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(query: &str, last_event_id: Option<&str>) -> Result<EventsRequest, BadRequest> {
        let mut headers = HeaderMap::new();
        if let Some(id) = last_event_id {
            headers.insert("last-event-id", id.parse().unwrap());
        }
        EventsRequest::parse(RunId::new("r").unwrap(), query, &headers)
    }

    #[test]
    fn the_header_wins_over_the_query() {
        let request = parse("after=var-1:1&from=now", Some("var-1:7")).unwrap();
        assert_eq!(request.begin, Begin::After("var-1:7".parse().unwrap()));
        assert_eq!(parse("after=var-1%3A1", None).unwrap().begin, Begin::After("var-1:1".parse().unwrap()));
    }

    #[test]
    fn an_empty_cursor_is_none() {
        assert_eq!(parse("after=&from=now", Some("")).unwrap().begin, Begin::Now);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (query, named) in [
            ("channels=output,sound", "sound"),
            ("channels=", "channels"),
            ("variations=a,b%2Fc", "variations"),
            ("after=nonsense", "after"),
            ("from=yesterday", "from"),
            ("merge=maybe", "merge"),
            ("chanels=output", "chanels"),
        ] {
            let error = parse(query, None).unwrap_err().to_string();
            assert!(error.contains(named), "{query}: {error}");
        }
        assert!(parse("_=123", None).is_ok());
    }
}
