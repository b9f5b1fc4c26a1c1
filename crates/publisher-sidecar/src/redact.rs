//! Secrets taken out of what the agent says, before anything of it is noted or sent.
//!
//! A rule ([`Rule`]) has a part that gives the secret away, which stays (`ghp_`, `password=`), and the
//! secret itself, which goes. Since only the secret's own bytes must wait until it is known to be one, text
//! without such marks is never held back. What is looked for is put together once ([`rules`]); a
//! [`Stream`] finds it in text that comes in pieces, and [`json`] in whole messages.

mod builtin;
mod config;
mod json;
mod known;
mod rules;
mod stream;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use runcast_protocol::{Json, Status};

pub use self::builtin::{NAMES, rules as builtin_rules};
pub use self::config::{CustomRule, RedactConfig};
pub use self::known::Known;
pub use self::rules::{BadRule, Rule, Rules};
pub use self::stream::{Clean, Stream};

use crate::draft::Draft;
use crate::metrics::Metrics;

/// Takes secrets out of all that leaves, and counts them. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Redactor {
    rules: Arc<Rules>,
    hold: Duration,
    metrics: Metrics,
}

impl Redactor {
    pub(crate) fn new(rules: Rules, hold: Duration, metrics: Metrics) -> Self {
        Self { rules: Arc::new(rules), hold, metrics }
    }

    /// How long the silence may last before what is held back is let go.
    pub(crate) fn hold(&self) -> Duration {
        self.hold
    }

    /// Begins to look through a stream.
    pub(crate) fn stream(&self) -> Stream {
        Stream::new(self.rules.clone())
    }

    /// What of a stream is clean, once its secrets are counted.
    pub(crate) fn count(&self, clean: Clean) -> Vec<u8> {
        for rule in clean.found {
            self.metrics.redacted(self.rules.kind(rule));
        }
        clean.bytes
    }

    /// A text without its secrets.
    pub(crate) fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut found = Vec::new();
        let clean = json::text(&self.rules, text, &mut found);
        self.count(Clean { bytes: Vec::new(), found });
        clean
    }

    /// A JSON value without its secrets.
    pub(crate) fn json(&self, value: Json) -> Json {
        let mut found = Vec::new();
        let clean = json::value(&self.rules, &value, &mut found);
        self.count(Clean { bytes: Vec::new(), found });
        clean.unwrap_or(value)
    }

    /// A message without its secrets.
    pub(crate) fn draft(&self, draft: Draft) -> Draft {
        if draft.is_clean || self.rules.is_empty() {
            return draft;
        }
        let content = self.json(draft.content);
        let extra = draft.extra.into_iter();
        let extra = extra.map(|(name, value)| (self.text(&name).into_owned(), self.json(value)));
        Draft {
            content,
            metadata: self.json(draft.metadata),
            extra: extra.collect(),
            is_clean: true,
            ..draft
        }
    }

    /// A status whose reason has no secrets: it is logged as well as sent.
    pub(crate) fn status(&self, status: Status) -> Status {
        let reason = status.reason.map(|reason| self.text(&reason).into_owned());
        Status { reason, ..status }
    }
}
