//! What a token allows.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher as _};

use runcast_protocol::{Channel, RunId};
use serde::{Deserialize, Serialize};

use crate::{Denied, TicketRequest};

/// Longest of all names and patterns of a token.
const MAX_NAME: usize = 256;
/// Most patterns of runs.
const MAX_RUNS: usize = 1024;

/// What somebody wants to do. Its name in tokens is in the variant's documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// `view`: see a run live, its state, lists of runs.
    View,
    /// `replay`: read history and play it back.
    Replay,
    /// `export`: take out a run as a whole, archive included.
    Export,
    /// `manage`: rebuild, dead letters, the archive.
    Manage,
    /// `create`: create runs.
    Create,
    /// `end`: end a run.
    End,
    /// `delete`: delete a run.
    Delete,
    /// `revoke`: revoke tokens, of whichever tenant.
    Revoke,
    /// `control:<action>`: send this command; `control:*` for all. The actions are pause, resume, stop,
    /// reconfigure, send, custom, and cancel for calling a command back.
    Control(&'static str),
}

/// What a token allows, as its claims say, and until when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Seconds since 1970.
    exp: u64,
    #[serde(default)]
    sub: Option<String>,
    #[serde(default)]
    jti: Option<String>,
    #[serde(default)]
    tenant: Option<String>,
    #[serde(default)]
    runs: Vec<String>,
    /// None: all.
    #[serde(default)]
    channels: Option<BTreeSet<String>>,
    #[serde(default)]
    operations: BTreeSet<String>,
}

impl Grant {
    /// Reads claims.
    ///
    /// # Errors
    /// [`Denied::Invalid`] if one has a wrong type or is out of bounds, or if `exp` is missing.
    pub fn parse(claims: &[u8]) -> Result<Self, Denied> {
        let grant: Self = serde_json::from_slice(claims).map_err(|_| Denied::Invalid)?;
        let fits = grant.runs.len() <= MAX_RUNS && grant.names().all(|name| name.len() <= MAX_NAME);
        // Who calls is written into logs and audits.
        let plain = grant.sub.iter().all(|sub| !sub.chars().any(char::is_control));
        if fits && plain { Ok(grant) } else { Err(Denied::Invalid) }
    }

    fn names(&self) -> impl Iterator<Item = &String> {
        let own = [&self.sub, &self.jti, &self.tenant].into_iter().flatten();
        own.chain(&self.runs).chain(&self.operations).chain(self.channels.iter().flatten())
    }

    /// Whether it covers a run. Of patterns, `*` stands only at the end.
    #[must_use]
    pub fn covers(&self, run: &RunId) -> bool {
        let run = run.as_str();
        let matches = |pattern: &String| match pattern.strip_suffix('*') {
            Some(prefix) => run.starts_with(prefix),
            None => run == pattern,
        };
        self.tenant.as_ref().is_none_or(|tenant| run.starts_with(tenant)) && self.runs.iter().any(matches)
    }

    /// Whether it allows an operation on some run.
    ///
    /// # Errors
    /// [`Denied::Forbidden`].
    pub fn allows(&self, operation: Operation) -> Result<(), Denied> {
        let has = |name: &str| self.operations.contains(name);
        let allowed = match operation {
            Operation::View => has("view"),
            Operation::Replay => has("replay"),
            Operation::Export => has("export"),
            Operation::Manage => has("manage"),
            Operation::Create => has("create"),
            Operation::End => has("end"),
            Operation::Delete => has("delete"),
            Operation::Revoke => has("revoke"),
            Operation::Control(action) => has("control:*") || has(&format!("control:{action}")),
        };
        if allowed { Ok(()) } else { Err(Denied::Forbidden) }
    }

    /// Whether it allows an operation on a run. To be asked before anybody looks whether there is such a run.
    ///
    /// # Errors
    /// [`Denied::Forbidden`].
    pub fn may(&self, operation: Operation, run: &RunId) -> Result<(), Denied> {
        if self.covers(run) { self.allows(operation) } else { Err(Denied::Forbidden) }
    }

    /// Whether it allows what says something of all channels, as summaries do.
    ///
    /// # Errors
    /// [`Denied::Forbidden`].
    pub fn all_channels(&self) -> Result<(), Denied> {
        let all = Channel::ALL.iter().all(|channel| self.may_see(channel.as_str()));
        if all { Ok(()) } else { Err(Denied::Forbidden) }
    }

    /// A query that asks for what it allows: `channels=` is added where nothing is said.
    ///
    /// # Errors
    /// [`Denied::Forbidden`] if the query names a channel that it does not allow, or it allows none.
    pub fn narrow(&self, query: &str) -> Result<String, Denied> {
        let mut asked = false;
        for (_, value) in form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name == "channels") {
            asked = true;
            if !value.split(',').all(|channel| self.may_see(channel)) {
                return Err(Denied::Forbidden);
            }
        }
        let Some(channels) = self.channels.as_ref().filter(|_| !asked) else { return Ok(query.to_owned()) };
        let known = Channel::ALL.map(|channel| channel.as_str().to_owned());
        let seen: Vec<_> = known.into_iter().filter(|channel| channels.contains(channel)).collect();
        if seen.is_empty() {
            return Err(Denied::Forbidden);
        }
        let between = if query.is_empty() { "" } else { "&" };
        Ok(format!("{query}{between}channels={}", seen.join(",")))
    }

    fn may_see(&self, channel: &str) -> bool {
        self.channels.as_ref().is_none_or(|channels| channels.contains(channel))
    }

    /// The token's name, by which it can be revoked.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.jti.as_deref()
    }

    /// Who holds it.
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        self.sub.as_deref()
    }

    /// Tells tokens apart, for who counts what is done with each.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        hash(self.claims())
    }

    /// Tells those who hold tokens apart: by the subject or, where a token names none, its id, or else by all that it
    /// says. The tickets of a token count as the token does.
    #[must_use]
    pub fn holder(&self) -> u64 {
        match (self.subject(), self.id()) {
            (Some(subject), _) => hash(("subject", subject)),
            (None, Some(id)) => hash(("id", id)),
            (None, None) => self.fingerprint(),
        }
    }

    /// When it expires, in seconds since 1970.
    #[must_use]
    pub fn expires(&self) -> u64 {
        self.exp
    }

    /// What a ticket for it grants: to view no more than what is asked for, as long as this.
    ///
    /// # Errors
    /// [`Denied::Forbidden`] if more is asked for than this allows.
    pub fn narrowed(&self, request: &TicketRequest) -> Result<Self, Denied> {
        self.allows(Operation::View)?;
        let runs =
            request.runs.as_ref().map_or_else(|| self.runs.clone(), |runs| runs.iter().cloned().collect());
        let allowed = runs.iter().all(|pattern| request.runs.is_none() || self.covers_all_of(pattern))
            && request.channels.iter().flatten().all(|channel| self.may_see(channel));
        if !allowed {
            return Err(Denied::Forbidden);
        }
        let channels = request.channels.clone().or_else(|| self.channels.clone());
        Ok(Self { runs, channels, operations: ["view".to_owned()].into(), ..self.clone() })
    }

    /// Whether it covers all that a pattern may match.
    fn covers_all_of(&self, pattern: &str) -> bool {
        let begin = pattern.strip_suffix('*').unwrap_or(pattern);
        let holds = |own: &String| match own.strip_suffix('*') {
            Some(prefix) => begin.starts_with(prefix),
            None => own == pattern,
        };
        self.tenant.as_ref().is_none_or(|tenant| begin.starts_with(tenant)) && self.runs.iter().any(holds)
    }

    /// As claims, which are read again as the same.
    #[must_use]
    pub fn claims(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("claims are made of JSON types")
    }
}

fn hash(what: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(more: &str) -> Grant {
        Grant::parse(format!("{{\"exp\":10{more}}}").as_bytes()).unwrap()
    }

    fn run(id: &str) -> RunId {
        RunId::new(id).unwrap()
    }

    #[test]
    fn runs_are_covered_exactly_by_prefix_and_within_the_tenant() {
        let some = grant(r#","runs":["run-a","team-b-*"]"#);
        assert!(some.covers(&run("run-a")) && some.covers(&run("team-b-1")));
        assert!(!some.covers(&run("run-ab")) && !some.covers(&run("team-c-1")) && !some.covers(&run("run")));
        let tenant = grant(r#","runs":["*"],"tenant":"b-""#);
        assert!(tenant.covers(&run("b-1")) && !tenant.covers(&run("a-b-1")));
        assert!(!grant("").covers(&run("run-a")));
    }

    #[test]
    fn what_is_not_named_is_not_allowed() {
        let some = grant(r#","runs":["r"],"operations":["view","control:pause"]"#);
        assert_eq!(some.may(Operation::View, &run("r")), Ok(()));
        assert_eq!(some.may(Operation::Control("pause"), &run("r")), Ok(()));
        for operation in [Operation::Control("stop"), Operation::Replay, Operation::Create] {
            assert_eq!(some.may(operation, &run("r")), Err(Denied::Forbidden));
        }
        assert_eq!(some.may(Operation::View, &run("q")), Err(Denied::Forbidden));
        assert_eq!(grant(r#","operations":["control:*"]"#).allows(Operation::Control("stop")), Ok(()));
    }

    #[test]
    fn queries_are_narrowed_to_the_channels() {
        let some = grant(r#","channels":["output","status"]"#);
        assert_eq!(some.narrow("limit=1").unwrap(), "limit=1&channels=output,status");
        assert_eq!(some.narrow("channels=output").unwrap(), "channels=output");
        for query in
            ["channels=logs", "channels=output&channels=logs", "channels=output,logs", "ch%61nnels=logs"]
        {
            assert_eq!(some.narrow(query), Err(Denied::Forbidden), "{query}");
        }
        assert_eq!((grant("").narrow(""), grant("").all_channels()), (Ok(String::new()), Ok(())));
        assert_eq!(some.all_channels(), Err(Denied::Forbidden));
        assert_eq!(grant(r#","channels":[]"#).narrow(""), Err(Denied::Forbidden));
    }

    #[test]
    fn tickets_grant_less_and_never_more() {
        let some = grant(
            r#","jti":"j","tenant":"a-","runs":["a-1","a-x*"],"channels":["output"],"operations":["view","end"]"#,
        );
        let ask = |runs: &[&str], channels: &[&str]| {
            let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
            let (runs, channels) = (Some(list(runs)), Some(list(channels)));
            some.narrowed(&TicketRequest { runs, channels, expires_in: None })
        };
        let ticket = ask(&["a-1", "a-x2", "a-xy*"], &["output"]).unwrap();
        assert_eq!((ticket.id(), ticket.expires()), (Some("j"), 10));
        assert_eq!(ticket.may(Operation::View, &run("a-xyz")), Ok(()));
        assert_eq!(ticket.may(Operation::End, &run("a-1")), Err(Denied::Forbidden));
        assert!(!ticket.covers(&run("a-x3")));
        assert_eq!(Grant::parse(&ticket.claims()), Ok(ticket));
        for (runs, channels) in [
            (&["a-2"] as &[_], &[] as &[_]),
            (&["*"], &[]),
            (&["a-*"], &[]),
            (&["a-1*"], &[]),
            (&["b-1"], &[]),
            (&["a-1"], &["output", "logs"]),
        ] {
            assert_eq!(ask(runs, channels), Err(Denied::Forbidden), "{runs:?} {channels:?}");
        }
        let whole = some.narrowed(&TicketRequest::default()).unwrap();
        assert!(whole.covers(&run("a-x3")) && whole.narrow("channels=logs").is_err());
        assert!(grant(r#","runs":["*"],"operations":["end"]"#).narrowed(&TicketRequest::default()).is_err());
    }

    #[test]
    fn claims_of_a_wrong_type_are_refused() {
        for claims in ["", "[]", "{}", r#"{"exp":"10"}"#, r#"{"exp":-1}"#, r#"{"exp":1,"runs":"*"}"#] {
            assert_eq!(Grant::parse(claims.as_bytes()), Err(Denied::Invalid), "{claims}");
        }
        assert_eq!(Grant::parse(br#"{"exp":1,"sub":"a\nb"}"#), Err(Denied::Invalid));
        let long = format!(r#"{{"exp":1,"jti":"{}"}}"#, "x".repeat(300));
        assert_eq!(Grant::parse(long.as_bytes()), Err(Denied::Invalid));
    }
}
