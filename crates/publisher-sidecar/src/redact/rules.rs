//! What is looked for, put together once: one automaton for all the marks, one for each secret.

use std::collections::BTreeSet;

use regex_automata::dfa::{Automaton, StartKind, dense};
use regex_automata::nfa::thompson;
use regex_automata::util::primitives::StateID;
use regex_automata::util::start;
use regex_automata::util::syntax;
use regex_automata::{Anchored, MatchKind};

use super::builtin::KNOWN_VALUE;
use super::known::Known;

/// Most memory of one automaton, in bytes, so that a pattern such as `(a{500}){500}` is refused.
const MAX_DFA: usize = 2 << 20;

/// What gives a secret away, and the secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    name: String,
    /// What comes before it and stays: a regular expression over bytes.
    after: String,
    secret: String,
    /// The byte that must come after it.
    followed_by: Option<u8>,
    /// Once the secret matches, everything is secret until this comes.
    until: Option<&'static str>,
}

/// A rule that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the rule `{name}`: {why}")]
pub struct BadRule {
    /// The rule's name.
    pub name: String,
    /// What is wrong with it, and what would be right.
    pub why: String,
}

/// All rules, compiled.
#[derive(Debug)]
pub struct Rules {
    /// Finds where secrets may begin; its patterns are numbered as `secrets` are.
    marks: dense::DFA<Vec<u32>>,
    secrets: Vec<Secret>,
    /// The secrets without a mark that begin with a byte.
    beginning_with: Box<[Vec<usize>; 256]>,
    /// As [`Self::beginning_with`], whether there are any.
    begins: Box<[bool; 256]>,
}

#[derive(Debug)]
pub(super) struct Secret {
    pub(super) form: Form,
    /// What takes its place.
    pub(super) replacement: String,
    /// What it is counted as.
    kind: String,
}

#[derive(Debug)]
pub(super) enum Form {
    Pattern { dfa: Box<dense::DFA<Vec<u32>>>, followed_by: Option<u8>, until: Option<&'static str> },
    Literal(Vec<u8>),
}

impl Rule {
    /// A secret that matches `secret` after what matches `after`; the latter stays.
    pub fn new(name: impl Into<String>, after: impl Into<String>, secret: impl Into<String>) -> Self {
        let (name, after, secret) = (name.into(), after.into(), secret.into());
        Self { name, after, secret, followed_by: None, until: None }
    }

    pub(super) fn followed_by(self, byte: u8) -> Self {
        Self { followed_by: Some(byte), ..self }
    }

    pub(super) fn until(self, end: &'static str) -> Self {
        Self { until: Some(end), ..self }
    }

    fn bad(&self, why: impl Into<String>) -> BadRule {
        BadRule { name: self.name.clone(), why: why.into() }
    }

    /// Whether it can be used by itself.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), BadRule> {
        let is_name = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        if self.name.is_empty() || self.name.len() > 64 || !self.name.bytes().all(is_name) {
            return Err(self.bad("expected a name of 1 to 64 of A-Z a-z 0-9 . _ -"));
        }
        let marks = self.marks(std::slice::from_ref(&self.after))?;
        let start = marks.start_state(&start::Config::new().anchored(Anchored::No)).expect("no prefilter");
        if marks.is_match_state(marks.next_eoi_state(start)) {
            return Err(self.bad("`after` must not match nothing: expected what comes before each secret"));
        }
        let secret = self.compile()?;
        let start = secret.start_state(&start::Config::new().anchored(Anchored::Yes)).expect("anchored");
        if secret.is_match_state(secret.next_eoi_state(start)) {
            return Err(self.bad("`secret` must not match nothing: expected such as `[a-z0-9]{20,}`"));
        }
        Ok(())
    }

    fn marks(&self, patterns: &[String]) -> Result<dense::DFA<Vec<u32>>, BadRule> {
        dfa(patterns, StartKind::Unanchored).map_err(|why| self.bad(format!("`after`: {why}")))
    }

    fn compile(&self) -> Result<dense::DFA<Vec<u32>>, BadRule> {
        let patterns = std::slice::from_ref(&self.secret);
        dfa(patterns, StartKind::Anchored).map_err(|why| self.bad(format!("`secret`: {why}")))
    }
}

impl Rules {
    /// Puts rules and known values together.
    ///
    /// # Errors
    /// [`BadRule`] if a pattern is malformed or takes too much memory.
    pub fn new(rules: &[Rule], known: &[Known]) -> Result<Self, BadRule> {
        let mut secrets = Vec::new();
        for rule in rules {
            let Rule { followed_by, until, .. } = *rule;
            let form = Form::Pattern { dfa: Box::new(rule.compile()?), followed_by, until };
            secrets.push(Secret { form, replacement: shown(&rule.name), kind: rule.name.clone() });
        }
        let mut beginning_with: Box<[Vec<usize>; 256]> = Box::new(std::array::from_fn(|_| Vec::new()));
        let mut seen = BTreeSet::new();
        for value in known {
            let name = value.name();
            for form in value.forms().filter(|form| seen.insert(form.clone())) {
                let Some(&first) = form.first() else { continue };
                beginning_with[usize::from(first)].push(secrets.len());
                let (replacement, kind) = (shown(name), KNOWN_VALUE.to_owned());
                secrets.push(Secret { form: Form::Literal(form), replacement, kind });
            }
        }
        let patterns: Vec<_> = rules.iter().map(|rule| rule.after.clone()).collect();
        let all = Rule::new("all together", "", "");
        let begins = Box::new(std::array::from_fn(|byte| !beginning_with[byte].is_empty()));
        Ok(Self { marks: all.marks(&patterns)?, secrets, beginning_with, begins })
    }

    /// Bytes of memory, about.
    pub fn memory(&self) -> usize {
        let size = |secret: &Secret| match &secret.form {
            Form::Pattern { dfa, .. } => dfa.memory_usage(),
            Form::Literal(value) => value.len(),
        };
        self.marks.memory_usage() + self.secrets.iter().map(size).sum::<usize>()
    }

    /// Whether nothing is looked for.
    pub(super) fn is_empty(&self) -> bool {
        self.secrets.is_empty()
    }

    /// What a secret is counted as.
    pub(super) fn kind(&self, secret: usize) -> &str {
        &self.secrets[secret].kind
    }

    pub(super) fn secret(&self, secret: usize) -> &Secret {
        &self.secrets[secret]
    }

    /// Where looking for marks begins.
    pub(super) fn start(&self) -> StateID {
        self.marks
            .start_state(&start::Config::new().anchored(Anchored::No))
            .expect("unanchored, no quit bytes")
    }

    /// One byte further.
    #[inline(always)]
    pub(super) fn next(&self, state: StateID, byte: u8) -> StateID {
        self.marks.next_state(state, byte)
    }

    /// Whether one of [`Self::secrets_at`] begins with this byte.
    #[inline(always)]
    pub(super) fn is_beginning(&self, state: StateID, byte: u8) -> bool {
        self.marks.is_special_state(state) || self.begins[usize::from(byte)]
    }

    /// The secrets whose marks ended before the byte that led to `state`, and those that need none.
    pub(super) fn secrets_at(&self, state: StateID, byte: u8) -> impl Iterator<Item = usize> + '_ {
        let marked = if self.marks.is_match_state(state) { self.marks.match_len(state) } else { 0 };
        let marked = (0..marked).map(move |index| self.marks.match_pattern(state, index).as_usize());
        marked.chain(self.beginning_with[usize::from(byte)].iter().copied())
    }
}

/// How all replacements begin.
pub(super) const REPLACEMENT: &str = "[redacted:";

fn shown(name: &str) -> String {
    format!("{REPLACEMENT}{name}]")
}

/// An automaton that finds all matches of all patterns, byte by byte.
fn dfa(patterns: &[String], start: StartKind) -> Result<dense::DFA<Vec<u32>>, String> {
    // Every state that needs looking at is a match then: no acceleration, no quitting.
    let config = dense::Config::new()
        .match_kind(MatchKind::All)
        .start_kind(start)
        .accelerate(false)
        .minimize(false)
        .dfa_size_limit(Some(MAX_DFA))
        .determinize_size_limit(Some(MAX_DFA));
    let compiled = dense::Builder::new()
        .configure(config)
        .syntax(syntax::Config::new().unicode(false).utf8(false).nest_limit(64))
        .thompson(thompson::Config::new().utf8(false).nfa_size_limit(Some(MAX_DFA)))
        .build_many(patterns);
    compiled.map_err(|error| {
        let mut deepest: &dyn std::error::Error = &error;
        while let Some(source) = deepest.source() {
            deepest = source;
        }
        let why = deepest.to_string();
        let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
        format!("{why}; expected a regular expression over bytes, such as `[a-z0-9]{{20,}}`")
    })
}
