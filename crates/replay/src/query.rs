//! What clients ask for: the queries of `…/messages` and `…/replay`.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use http::HeaderMap;
use http::header::ACCEPT;
use jiff::{SignedDuration, Timestamp};
use runcast_protocol::{Channel, Cursor, MessageType, Selection, Sequence, VariationId};

use crate::config::HistoryConfig;
use crate::error::Error;
use crate::history::Filter;

/// Most variations that one request may name.
const MAX_VARIATIONS: usize = 256;
/// Longest text that is searched for, in bytes.
const MAX_SEARCH: usize = 1024;
/// Fastest and slowest replay.
const SPEEDS: (f64, f64) = (0.01, 10_000.0);

/// What `…/messages` is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct MessagesQuery {
    /// Which messages.
    pub filter: Filter,
    /// The first and last sequence of each lane that are wanted.
    pub span: (Sequence, Sequence),
    /// Where to begin, and in which direction.
    pub from: From,
    /// Messages on the page; none for all there are, as a stream.
    pub limit: Option<usize>,
    /// How they are written.
    pub format: Format,
}

/// Where a page begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum From {
    /// Forwards, after a cursor.
    After(Cursor),
    /// Backwards, from a cursor; from the end without one.
    Before(Option<Cursor>),
}

/// How messages are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A JSON object a line.
    Ndjson,
    /// One JSON object with the messages in an array.
    Json,
    /// What the agent said, as it said it.
    Text,
}

/// What `…/replay` is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct ReplayQuery {
    /// Channels and variations.
    pub selection: Selection,
    /// How many times as fast as it was; none for as fast as it goes.
    pub speed: Option<f64>,
    /// Longest silence that is kept.
    pub max_silence: Option<Duration>,
    /// Where to begin.
    pub from: ReplayFrom,
}

/// Where a replay begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplayFrom {
    /// With what follows a cursor.
    After(Cursor),
    /// With the first message that was said at this time or later.
    Time(Timestamp),
}

impl MessagesQuery {
    /// Reads the query; the `Accept` header counts where `format` is not given.
    ///
    /// # Errors
    /// [`Error::BadRequest`] saying which parameter is wrong, and what it should be.
    pub fn parse(query: &str, headers: &HeaderMap, config: &HistoryConfig) -> Result<Self, Error> {
        let (mut channels, mut types, mut variations) = (None, None, None);
        let (mut after, mut before, mut backwards) = (None, None, false);
        let mut span = (Sequence::NONE.next(), Sequence::MAX);
        let (mut limit, mut format) = (Some(config.page), None);
        let mut filter = Filter::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "channels" => channels = Some(list::<Channel>(&name, &value)?),
                "types" => types = Some(types_of(&value)?),
                "variations" => variations = Some(named(&value)?),
                "first" => span.0 = sequence(&name, &value)?,
                "last" => span.1 = sequence(&name, &value)?,
                "since" => filter.since = Some(time(&name, &value)?),
                "until" => filter.until = Some(time(&name, &value)?),
                "search" => filter.search = search(&value)?,
                "after" => after = Some(parse::<Cursor>(&name, &value)?),
                "before" => before = Some(parse::<Cursor>(&name, &value)?),
                "order" => backwards = one_of(&name, &value, &[("asc", false), ("desc", true)])?,
                "limit" => limit = limited(&value, config)?,
                "format" => {
                    let known = [("ndjson", Format::Ndjson), ("json", Format::Json), ("text", Format::Text)];
                    format = Some(one_of(&name, &value, &known)?);
                }
                // What caches are fooled with.
                _ if name.starts_with('_') => {}
                _ => {
                    return Err(unknown(
                        &name,
                        "channels, types, variations, first, last, since, until, search, after, before, order, limit and format",
                    ));
                }
            }
        }
        filter.selection = selection(channels, types, variations);
        let from = match (after, before) {
            (Some(_), Some(_)) => return Err(Error::bad("before", "cannot be given together with after")),
            (Some(_), None) if backwards => {
                return Err(Error::bad("after", "order=desc goes back from before=<cursor>"));
            }
            (after, None) if !backwards => From::After(after.unwrap_or_default()),
            (_, before) => From::Before(before),
        };
        Ok(Self { filter, span, from, limit, format: format.unwrap_or_else(|| accepted(headers)) })
    }
}

impl ReplayQuery {
    /// Reads the query and the `Last-Event-ID` header, which wins over `from`: EventSource reconnects
    /// with the same address.
    ///
    /// # Errors
    /// [`Error::BadRequest`] saying which parameter is wrong, and what it should be.
    pub fn parse(query: &str, headers: &HeaderMap) -> Result<Self, Error> {
        let (mut channels, mut variations) = (None, None);
        let (mut speed, mut max_silence) = (Some(1.0), None);
        let mut from = ReplayFrom::After(Cursor::default());
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "channels" => channels = Some(list::<Channel>(&name, &value)?),
                "variations" => variations = Some(named(&value)?),
                "speed" => speed = speed_of(&value)?,
                "max_silence" => max_silence = Some(silence(&value)?),
                "from" => from = replay_from(&value)?,
                _ if name.starts_with('_') => {}
                _ => return Err(unknown(&name, "channels, variations, speed, max_silence and from")),
            }
        }
        if let Some(header) = headers.get("last-event-id").filter(|header| !header.is_empty()) {
            let text = header.to_str().map_err(|_| Error::bad("Last-Event-ID", "is not ASCII"))?;
            from = ReplayFrom::After(parse("Last-Event-ID", text)?);
        }
        Ok(Self { selection: selection(channels, None, variations), speed, max_silence, from })
    }
}

fn selection(
    channels: Option<BTreeSet<Channel>>,
    types: Option<BTreeSet<Channel>>,
    variations: Option<BTreeSet<VariationId>>,
) -> Selection {
    let channels = match (channels, types) {
        (Some(channels), Some(types)) => channels.intersection(&types).copied().collect(),
        (Some(channels), None) | (None, Some(channels)) => channels,
        (None, None) => Selection::default().channels().collect(),
    };
    Selection::new(channels, variations)
}

/// Each type travels on its own channel.
fn types_of(value: &str) -> Result<BTreeSet<Channel>, Error> {
    let known = Channel::ALL.map(Channel::message_type);
    let of = |item: &str| {
        let quoted = serde_json::Value::from(item);
        let kind: Option<MessageType> = serde_json::from_value(quoted).ok();
        let kind = kind.filter(|kind| known.contains(kind)).map(MessageType::channel);
        kind.ok_or_else(|| {
            let shown: String = item.chars().take(40).collect();
            Error::bad("types", format!("{shown:?} is none of output, log, status, metric, control, ack"))
        })
    };
    value.split(',').map(of).collect()
}

fn named(value: &str) -> Result<BTreeSet<VariationId>, Error> {
    let variations = list("variations", value)?;
    if variations.len() > MAX_VARIATIONS {
        let why = format!("names more than {MAX_VARIATIONS}; leave it out for all");
        return Err(Error::bad("variations", why));
    }
    Ok(variations)
}

fn search(value: &str) -> Result<Option<String>, Error> {
    if value.len() > MAX_SEARCH {
        return Err(Error::bad("search", format!("is longer than {MAX_SEARCH} bytes")));
    }
    Ok((!value.is_empty()).then(|| value.to_lowercase()))
}

fn limited(value: &str, config: &HistoryConfig) -> Result<Option<usize>, Error> {
    if value == "all" {
        return Ok(None);
    }
    let limit = value.parse().ok().filter(|limit| (1..=config.max_page).contains(limit));
    let limit = limit.ok_or_else(|| {
        Error::bad("limit", format!("must be 1 to {}, or all for everything as a stream", config.max_page))
    })?;
    Ok(Some(limit))
}

fn speed_of(value: &str) -> Result<Option<f64>, Error> {
    if value == "max" {
        return Ok(None);
    }
    let speed = value.parse().ok().filter(|speed| (SPEEDS.0..=SPEEDS.1).contains(speed));
    let why = || Error::bad("speed", "must be a number such as 1, 4 or 0.5 (0.01 to 10000), or max");
    Ok(Some(speed.ok_or_else(why)?))
}

fn silence(value: &str) -> Result<Duration, Error> {
    let parsed = value.parse::<SignedDuration>().ok().and_then(|silence| Duration::try_from(silence).ok());
    parsed.ok_or_else(|| Error::bad("max_silence", "must be a duration such as 5s or 500ms"))
}

/// A time has a dash where a cursor never has one: after four digits.
fn replay_from(value: &str) -> Result<ReplayFrom, Error> {
    if value == "start" {
        return Ok(ReplayFrom::After(Cursor::default()));
    }
    if let Ok(time) = value.parse() {
        return Ok(ReplayFrom::Time(time));
    }
    let cursor = value.parse().map_err(|error| {
        Error::bad(
            "from",
            format!("must be start, a time such as 2026-01-10T10:30:00Z, or a cursor: {error}"),
        )
    })?;
    Ok(ReplayFrom::After(cursor))
}

/// What the `Accept` header prefers among what there is; NDJSON otherwise.
fn accepted(headers: &HeaderMap) -> Format {
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let mut kinds = accept.split(',').filter_map(|item| match item.split(';').next()?.trim() {
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" => Some(Format::Ndjson),
        "application/json" => Some(Format::Json),
        "text/plain" => Some(Format::Text),
        _ => None,
    });
    kinds.next().unwrap_or(Format::Ndjson)
}

fn sequence(name: &str, value: &str) -> Result<Sequence, Error> {
    let number = value.parse().ok().and_then(|number| Sequence::new(number).ok());
    number.filter(|number| *number > Sequence::NONE).ok_or_else(|| Error::bad(name, "must be 1 or more"))
}

fn time(name: &str, value: &str) -> Result<Timestamp, Error> {
    value.parse().map_err(|_| Error::bad(name, "must be a time such as 2026-01-10T10:30:00Z (RFC 3339)"))
}

fn one_of<T: Copy>(name: &str, value: &str, known: &[(&str, T)]) -> Result<T, Error> {
    let names = || known.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" or ");
    let found = known.iter().find(|(name, _)| *name == value).map(|(_, known)| *known);
    found.ok_or_else(|| Error::bad(name, format!("must be {}", names())))
}

fn list<T: FromStr<Err: Display> + Ord>(name: &str, value: &str) -> Result<BTreeSet<T>, Error> {
    value.split(',').map(|item| parse(name, item)).collect()
}

fn parse<T: FromStr<Err: Display>>(name: &str, value: &str) -> Result<T, Error> {
    value.parse().map_err(|error| Error::bad(name, error))
}

fn unknown(name: &str, known: &str) -> Error {
    let shown: String = name.chars().take(40).collect();
    Error::bad(&shown, format!("there is no such parameter; there are {known}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: HistoryConfig = HistoryConfig { page: 100, max_page: 1000, max_scan: 10_000 };

    fn messages(query: &str) -> Result<MessagesQuery, Error> {
        MessagesQuery::parse(query, &HeaderMap::new(), &CONFIG)
    }

    #[test]
    fn pages_go_both_ways() {
        assert_eq!(messages("").unwrap().from, From::After(Cursor::default()));
        assert_eq!(messages("after=v:7").unwrap().from, From::After("v:7".parse().unwrap()));
        assert_eq!(messages("order=desc").unwrap().from, From::Before(None));
        assert_eq!(messages("before=v:7").unwrap().from, From::Before(Some("v:7".parse().unwrap())));
        assert_eq!(messages("limit=all").unwrap().limit, None);
        let query = messages("types=output,log&channels=logs,status").unwrap();
        assert_eq!(query.filter.selection.channels().collect::<Vec<_>>(), [Channel::Logs]);
    }

    #[test]
    fn the_accept_header_counts_where_nothing_is_said() {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, "text/html, text/plain;q=0.5".parse().unwrap());
        assert_eq!(MessagesQuery::parse("", &headers, &CONFIG).unwrap().format, Format::Text);
        assert_eq!(MessagesQuery::parse("format=json", &headers, &CONFIG).unwrap().format, Format::Json);
    }

    #[test]
    fn a_replay_begins_anywhere() {
        let parse = |query: &str| ReplayQuery::parse(query, &HeaderMap::new()).unwrap();
        let time = "2026-01-10T10:30:00Z";
        assert_eq!(parse(&format!("from={time}")).from, ReplayFrom::Time(time.parse().unwrap()));
        assert_eq!(parse("from=v:7").from, ReplayFrom::After("v:7".parse().unwrap()));
        assert_eq!((parse("").speed, parse("speed=max").speed), (Some(1.0), None));
        assert_eq!(parse("max_silence=5s").max_silence, Some(Duration::from_secs(5)));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (query, named) in [
            ("channels=sound", "sound"),
            ("types=Output", "types"),
            ("variations=a%2Fb", "variations"),
            ("first=0", "first"),
            ("last=x", "last"),
            ("since=yesterday", "since"),
            ("after=nonsense", "after"),
            ("after=v:1&order=desc", "after"),
            ("after=v:1&before=v:2", "before"),
            ("order=up", "order"),
            ("limit=0", "limit"),
            ("limit=1001", "limit"),
            ("format=xml", "format"),
            ("serch=x", "serch"),
        ] {
            let error = messages(query).unwrap_err().to_string();
            assert!(error.contains(named), "{query}: {error}");
        }
        for (query, named) in [
            ("speed=0", "speed"),
            ("speed=NaN", "speed"),
            ("max_silence=-1s", "max_silence"),
            ("from=x", "from"),
        ] {
            let error = ReplayQuery::parse(query, &HeaderMap::new()).unwrap_err().to_string();
            assert!(error.contains(named), "{query}: {error}");
        }
    }
}
