//! `GET /v1/runs`: what a client may ask of the catalog, and pages of the answer. Pure.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use runcast_protocol::{RunId, State};
use serde::{Serialize, Serializer};

use super::report::RunSummary;
use crate::error::Error;

/// Runs of a page, if the client does not say, and at most.
const PAGE: usize = 100;
const MAX_PAGE: usize = 1000;

/// What a client asks of the catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListRequest {
    /// Empty: all.
    states: BTreeSet<&'static str>,
    prefix: String,
    /// Microseconds, both inclusive.
    started_after: Option<i64>,
    started_before: Option<i64>,
    sort: Sort,
    limit: usize,
    after: Option<Place>,
}

/// How runs are sorted; of those that are alike, the one whose name comes first is first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sort {
    by: By,
    descending: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Started,
    Ended,
    Messages,
    Bytes,
    Name,
}

/// Where a page ended: its last run's key and name.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    key: Option<i64>,
    run: RunId,
}

/// A page.
#[derive(Debug, Serialize)]
pub(super) struct Listing {
    #[serde(serialize_with = "each")]
    runs: Vec<Arc<RunSummary>>,
    next_page_token: String,
}

fn each<S: Serializer>(runs: &[Arc<RunSummary>], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(runs.iter().map(|run| &**run))
}

impl ListRequest {
    /// Reads a query.
    ///
    /// # Errors
    /// [`Error::BadRequest`] naming the parameter that is wrong, and what it should be.
    pub fn parse(query: &str) -> Result<Self, Error> {
        let mut request = Self {
            states: BTreeSet::new(),
            prefix: String::new(),
            started_after: None,
            started_before: None,
            sort: Sort { by: By::Started, descending: true },
            limit: PAGE,
            after: None,
        };
        let mut token = String::new();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "state" => request.states = states(&value)?,
                "prefix" => request.prefix = prefix(&value)?,
                "started_after" => request.started_after = Some(time(&name, &value)?),
                "started_before" => request.started_before = Some(time(&name, &value)?),
                "sort" => request.sort = Sort::parse(&value)?,
                "limit" => request.limit = limit(&value, MAX_PAGE)?,
                "page_token" => token = value.into_owned(),
                // What caches are fooled with.
                _ if name.starts_with('_') => {}
                _ => return Err(unknown(&name)),
            }
        }
        if !token.is_empty() {
            request.after = Some(Place::parse(&token, request.sort)?);
        }
        Ok(request)
    }

    /// The page that it asks for.
    pub(super) fn answer(&self, runs: Vec<Arc<RunSummary>>) -> Listing {
        let mut found: Vec<(Place, Arc<RunSummary>)> = runs
            .into_iter()
            .filter(|run| self.chooses(run))
            .map(|run| (Place { key: self.sort.key(&run), run: run.run_id.clone() }, run))
            .filter(|(place, _)| {
                self.after.as_ref().is_none_or(|after| self.sort.order(place, after).is_gt())
            })
            .collect();
        found.sort_unstable_by(|(one, _), (two, _)| self.sort.order(one, two));
        let more = found.len() > self.limit;
        found.truncate(self.limit);
        let last = found.last().filter(|_| more);
        let next_page_token = last.map(|(place, _)| place.to_token(self.sort)).unwrap_or_default();
        Listing { runs: found.into_iter().map(|(_, run)| run).collect(), next_page_token }
    }

    fn chooses(&self, run: &RunSummary) -> bool {
        let started = run.started.map(|at| at.0);
        (self.states.is_empty() || self.states.contains(run.state.as_str()))
            && run.run_id.as_str().starts_with(&self.prefix)
            && self.started_after.is_none_or(|limit| started.is_some_and(|at| at >= limit))
            && self.started_before.is_none_or(|limit| started.is_some_and(|at| at <= limit))
    }
}

impl Sort {
    const NAMES: &'static str = "started, -started, ended, -ended, messages, -messages, bytes, -bytes, \
                                 run_id or -run_id";

    fn parse(text: &str) -> Result<Self, Error> {
        let (name, descending) = text.strip_prefix('-').map_or((text, false), |name| (name, true));
        let by = match name {
            "started" => By::Started,
            "ended" => By::Ended,
            "messages" => By::Messages,
            "bytes" => By::Bytes,
            "run_id" => By::Name,
            _ => return Err(Error::bad("sort", format!("must be {}", Self::NAMES))),
        };
        Ok(Self { by, descending })
    }

    fn name(self) -> String {
        let name = match self.by {
            By::Started => "started",
            By::Ended => "ended",
            By::Messages => "messages",
            By::Bytes => "bytes",
            By::Name => "run_id",
        };
        format!("{}{name}", if self.descending { "-" } else { "" })
    }

    fn key(self, run: &RunSummary) -> Option<i64> {
        let number = |number: u64| Some(i64::try_from(number).unwrap_or(i64::MAX));
        match self.by {
            By::Started => run.started.map(|at| at.0),
            By::Ended => run.ended.map(|at| at.0),
            By::Messages => number(run.messages()),
            By::Bytes => number(run.bytes()),
            By::Name => None,
        }
    }

    /// A run without the key comes last, whichever way they are sorted.
    fn order(self, one: &Place, two: &Place) -> Ordering {
        let turned = |order: Ordering| if self.descending { order.reverse() } else { order };
        let names = one.run.cmp(&two.run);
        match (one.key, two.key) {
            (None, None) if self.by == By::Name => turned(names),
            (Some(one), Some(two)) => turned(one.cmp(&two)).then(names),
            (one, two) => two.is_some().cmp(&one.is_some()).then(names),
        }
    }
}

impl Place {
    fn to_token(&self, sort: Sort) -> String {
        let key = self.key.map(|key| key.to_string()).unwrap_or_default();
        format!("{}~{key}~{}", sort.name(), self.run)
    }

    fn parse(token: &str, sort: Sort) -> Result<Self, Error> {
        let bad = |why: &str| Error::bad("page_token", why);
        let mut parts = token.splitn(3, '~');
        let (Some(name), Some(key), Some(run)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(bad("take it as it came, in next_page_token"));
        };
        if name != sort.name() {
            return Err(bad("is of a list that was sorted in another way; begin anew without it"));
        }
        let key = (!key.is_empty()).then(|| key.parse()).transpose();
        let (key, run) = (key.ok(), RunId::new(run).ok());
        match (key, run) {
            (Some(key), Some(run)) => Ok(Self { key, run }),
            _ => Err(bad("take it as it came, in next_page_token")),
        }
    }
}

fn states(value: &str) -> Result<BTreeSet<&'static str>, Error> {
    const ALL: [State; 6] =
        [State::Pending, State::Running, State::Succeeded, State::Failed, State::Cancelled, State::Lost];
    let named = value.split(',').filter(|name| !name.is_empty()).map(|name| {
        let state = ALL.into_iter().find(|state| state.as_str() == name);
        let names = ALL.map(State::as_str).join(", ");
        state.map(State::as_str).ok_or_else(|| Error::bad("state", format!("must be some of {names}")))
    });
    named.collect()
}

fn prefix(value: &str) -> Result<String, Error> {
    // What no run's name begins with would only ever find nothing.
    if !value.is_empty() {
        RunId::new(value).map_err(|error| Error::bad("prefix", error))?;
    }
    Ok(value.to_owned())
}

fn time(name: &str, value: &str) -> Result<i64, Error> {
    // In a query a plus sign that was not escaped is a space.
    let parsed = value.replace(' ', "+").parse::<Timestamp>();
    let time = parsed.map_err(|_| Error::bad(name, "must be RFC 3339, such as 2026-01-10T10:30:00Z"))?;
    Ok(time.as_microsecond())
}

/// A number of things from 1 to `max`.
pub(super) fn limit(value: &str, max: usize) -> Result<usize, Error> {
    let number = value.parse().ok().filter(|number| (1..=max).contains(number));
    number.ok_or_else(|| Error::bad("limit", format!("must be a number from 1 to {max}")))
}

/// A parameter that there is none of.
pub(super) fn unknown(name: &str) -> Error {
    let shown: String = name.chars().take(40).collect();
    Error::bad(&shown, "there is no such parameter here")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::readmodel::{Micros, Summary};

    fn run(name: &str, started: Option<i64>) -> Arc<RunSummary> {
        let summary = RunSummary::of(&name.parse().unwrap(), &Summary::default(), false);
        Arc::new(RunSummary { started: started.map(Micros), ..summary })
    }

    fn runs() -> Vec<Arc<RunSummary>> {
        let mut runs: Vec<_> =
            (0..20).map(|n| run(&format!("run-{n:02}"), Some(n / 5 * 1_000_000))).collect();
        runs.extend([run("never-1", None), run("never-2", None)]);
        runs
    }

    fn names(query: &str) -> Vec<String> {
        let mut names = Vec::new();
        let mut token = String::new();
        loop {
            let request = ListRequest::parse(&format!("{query}&page_token={token}")).unwrap();
            let page = request.answer(runs());
            assert!(page.runs.len() <= request.limit);
            names.extend(page.runs.iter().map(|run| run.run_id.to_string()));
            token = page.next_page_token;
            if token.is_empty() {
                return names;
            }
        }
    }

    #[test]
    fn pages_put_together_are_the_list_whatever_their_size() {
        for sort in ["started", "-started", "run_id", "-run_id", "messages", "-ended"] {
            let whole = names(&format!("sort={sort}&limit=1000"));
            assert_eq!(whole.len(), 22);
            for limit in 1..8 {
                assert_eq!(names(&format!("sort={sort}&limit={limit}")), whole, "{sort} by {limit}");
            }
        }
        let newest = names("limit=1000");
        assert_eq!(
            (newest[0].as_str(), newest[4].as_str(), newest[21].as_str()),
            ("run-15", "run-19", "never-2")
        );
        assert_eq!(names("sort=started&limit=9")[..2], ["run-00", "run-01"]);
        assert_eq!(names("sort=-run_id")[0], "run-19");
    }

    #[test]
    fn filters_choose() {
        assert_eq!(names("prefix=never&sort=run_id"), ["never-1", "never-2"]);
        assert_eq!(names("state=failed,lost"), [""; 0]);
        assert_eq!(names("state=running").len(), 22);
        assert_eq!(names("started_after=1970-01-01T00:00:02Z&started_before=1970-01-01T00:00:02Z").len(), 5);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (query, named) in [
            ("state=dead", "state"),
            ("limit=0", "limit"),
            ("limit=1001", "limit"),
            ("limit=x", "limit"),
            ("sort=age", "sort"),
            ("started_after=yesterday", "started_after"),
            ("started_before=1", "started_before"),
            ("page_token=x", "page_token"),
            ("page_token=started~1~r", "page_token"),
            ("page_token=-started~x~r", "page_token"),
            ("page_token=-started~1~r%2F", "page_token"),
            ("prefix=a%2Fb", "prefix"),
            ("prefx=a", "prefx"),
        ] {
            let error = ListRequest::parse(query).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{named}: ")), "{query}: {error}");
        }
        assert!(ListRequest::parse("_=1").is_ok());
    }
}
