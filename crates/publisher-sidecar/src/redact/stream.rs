//! Secrets found in text that comes in pieces.

use std::sync::Arc;

use regex_automata::Anchored;
use regex_automata::dfa::{Automaton, dense};
use regex_automata::util::primitives::StateID;
use regex_automata::util::start;

use super::rules::{Form, Rules};

/// Most bytes that wait for a secret to be known as one; no pattern may look further.
const MAX_UNDECIDED: u64 = 4 << 10;

/// Most bytes hidden when the end of a block (a private key) does not come.
const MAX_BLOCK: u64 = 16 << 10;

/// Most beginnings of secrets that are followed at a time: what a byte costs has a bound.
const MAX_CANDIDATES: usize = 32;

/// What can be passed on.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Clean {
    /// The bytes, secrets replaced.
    pub bytes: Vec<u8>,
    /// The rules of what was replaced, one for each replacement.
    pub found: Vec<usize>,
}

/// Takes the secrets out of a stream, byte by byte: how it is cut makes no difference. Only bytes that may
/// belong to a secret are held back. Knows no time: the caller says when waiting has been enough.
#[derive(Debug)]
pub struct Stream {
    rules: Arc<Rules>,
    marks: StateID,
    /// Bytes taken so far; places in the stream are counted like this.
    taken: u64,
    /// Bytes that were passed on, or hidden, so far.
    passed: u64,
    /// The bytes between the two.
    held: Vec<u8>,
    /// What may be a secret, in the order in which it began.
    candidates: Vec<Candidate>,
    /// What is one and was not passed on yet.
    hidden: Vec<Hidden>,
    /// Where the last replacement's secret ended.
    replaced_to: u64,
}

#[derive(Debug)]
struct Candidate {
    secret: usize,
    start: u64,
    /// Up to where it is known to be a secret.
    known_to: Option<u64>,
    progress: Progress,
}

#[derive(Debug, Clone, Copy)]
enum Progress {
    Pattern(StateID),
    Literal(usize),
    /// Everything is secret until its end comes.
    Block,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Hidden {
    start: u64,
    end: u64,
    secret: usize,
}

/// What a byte says about a candidate.
enum Step {
    Goes(Progress, Option<u64>),
    Ends(Option<u64>),
}

impl Stream {
    /// At a stream's beginning.
    pub fn new(rules: Arc<Rules>) -> Self {
        let marks = rules.start();
        let (candidates, hidden) = (Vec::new(), Vec::new());
        Self { rules, marks, taken: 0, passed: 0, held: Vec::new(), candidates, hidden, replaced_to: 0 }
    }

    /// Whether bytes are held back that time alone should release.
    pub fn is_holding(&self) -> bool {
        self.passed < self.expires_to()
    }

    /// Takes the next bytes; returns what can be passed on.
    pub fn push(&mut self, bytes: &[u8]) -> Clean {
        if self.rules.is_empty() {
            return Clean { bytes: bytes.to_vec(), found: Vec::new() };
        }
        self.held.extend_from_slice(bytes);
        let rules = self.rules.clone();
        for &byte in bytes {
            self.marks = rules.next(self.marks, byte);
            if rules.is_beginning(self.marks, byte) {
                for secret in rules.secrets_at(self.marks, byte) {
                    self.begin(secret);
                }
            }
            self.taken += 1;
            if !self.candidates.is_empty() {
                self.advance(byte);
            }
        }
        let decided = self.candidates.iter().map(Candidate::decided_to).min().unwrap_or(self.taken);
        self.pass(decided)
    }

    /// What is held back has had its time and is passed on. If it turns out to be a secret after all, the
    /// rest of that is still hidden.
    pub fn expire(&mut self) -> Clean {
        self.settle();
        self.pass(self.expires_to())
    }

    /// There is nothing more to come.
    pub fn finish(&mut self) -> Clean {
        self.settle();
        for block in self.candidates.extract_if(.., |candidate| matches!(candidate.progress, Progress::Block))
        {
            hide(&mut self.hidden, &block, self.taken);
        }
        self.candidates.clear();
        self.pass(self.taken)
    }

    /// Up to where time may release what is held: the end of a block is looked for in its last bytes, which
    /// nobody is to see anyway.
    fn expires_to(&self) -> u64 {
        let blocks = self.candidates.iter().filter(|candidate| matches!(candidate.progress, Progress::Block));
        blocks.filter_map(|block| block.known_to).min().unwrap_or(self.taken)
    }

    /// A secret may begin with the next byte.
    fn begin(&mut self, secret: usize) {
        if self.candidates.len() >= MAX_CANDIDATES {
            return;
        }
        let progress = match &self.rules.secret(secret).form {
            Form::Pattern { dfa, .. } => {
                let start = dfa.start_state(&start::Config::new().anchored(Anchored::Yes));
                Progress::Pattern(start.expect("anchored, no quit bytes"))
            }
            Form::Literal(_) => Progress::Literal(0),
        };
        self.candidates.push(Candidate { secret, start: self.taken, known_to: None, progress });
    }

    /// Shows the byte that was just taken to all candidates.
    fn advance(&mut self, byte: u8) {
        let mut candidates = std::mem::take(&mut self.candidates);
        candidates.retain_mut(|candidate| {
            let (known_to, goes_on) = match self.step(candidate, byte) {
                Step::Goes(progress, known_to) => {
                    candidate.progress = progress;
                    (known_to, true)
                }
                Step::Ends(known_to) => (known_to, false),
            };
            if let Some(end) = known_to {
                candidate.known_to = Some(end);
                hide(&mut self.hidden, candidate, end);
            }
            goes_on && self.taken - candidate.decided_to() <= MAX_UNDECIDED
        });
        self.candidates = candidates;
    }

    fn step(&self, candidate: &Candidate, byte: u8) -> Step {
        let form = &self.rules.secret(candidate.secret).form;
        match (candidate.progress, form) {
            (Progress::Pattern(state), Form::Pattern { dfa, followed_by, until }) => {
                let next = dfa.next_state(state, byte);
                // The automaton says a byte later that it has matched: that one is looked at already.
                let matched = dfa.is_match_state(next) && followed_by.is_none_or(|wanted| wanted == byte);
                let known_to = matched.then(|| self.taken - 1);
                match until {
                    Some(_) if matched => Step::Goes(Progress::Block, known_to),
                    _ if dfa.is_dead_state(next) || matched && leads_nowhere(dfa, next) => {
                        Step::Ends(known_to)
                    }
                    _ => Step::Goes(Progress::Pattern(next), known_to),
                }
            }
            (Progress::Literal(count), Form::Literal(value)) if value[count] == byte => {
                let count = count + 1;
                if count == value.len() {
                    Step::Ends(Some(self.taken))
                } else {
                    Step::Goes(Progress::Literal(count), None)
                }
            }
            (Progress::Block, Form::Pattern { until: Some(until), .. }) => {
                let before_end = self.taken.saturating_sub(until.len() as u64).max(candidate.start);
                if self
                    .held
                    .get(..self.index(self.taken))
                    .is_some_and(|held| held.ends_with(until.as_bytes()))
                {
                    Step::Ends(Some(before_end))
                } else if self.taken - candidate.start > MAX_BLOCK {
                    Step::Ends(Some(self.taken))
                } else {
                    Step::Goes(Progress::Block, Some(before_end))
                }
            }
            _ => Step::Ends(None),
        }
    }

    /// Where in what is held a place is.
    fn index(&self, place: u64) -> usize {
        usize::try_from(place.saturating_sub(self.passed)).unwrap_or(usize::MAX)
    }

    /// The stream is silent: a secret may be whole although nothing after it says so.
    fn settle(&mut self) {
        for candidate in &mut self.candidates {
            let form = &self.rules.secret(candidate.secret).form;
            if let (Progress::Pattern(state), Form::Pattern { dfa, followed_by: None, until: None }) =
                (candidate.progress, form)
                && dfa.is_match_state(dfa.next_eoi_state(state))
            {
                candidate.known_to = Some(self.taken);
                hide(&mut self.hidden, candidate, self.taken);
            }
        }
    }

    /// Passes on everything up to `decided`.
    fn pass(&mut self, decided: u64) -> Clean {
        let mut clean = Clean::default();
        if self.hidden.is_empty() && self.index(decided) == self.held.len() {
            self.passed = decided;
            clean.bytes = std::mem::take(&mut self.held);
            return clean;
        }
        let mut at = self.passed;
        for hidden in &self.hidden {
            let (start, end) = (hidden.start.max(at), hidden.end.min(decided));
            if start >= end {
                continue;
            }
            clean.bytes.extend_from_slice(&self.held[self.index(at)..self.index(start)]);
            // Not where it is the rest of what was replaced already.
            if self.replaced_to != start || start == 0 {
                clean.bytes.extend_from_slice(self.rules.secret(hidden.secret).replacement.as_bytes());
                clean.found.push(hidden.secret);
            }
            at = end;
            self.replaced_to = end;
        }
        let decided = decided.max(at);
        clean.bytes.extend_from_slice(&self.held[self.index(at)..self.index(decided)]);
        let passed = self.index(decided);
        self.held.drain(..passed);
        self.passed = decided;
        self.hidden.retain(|hidden| hidden.end > decided);
        clean
    }
}

impl Candidate {
    /// Up to where it is decided what is passed on.
    fn decided_to(&self) -> u64 {
        self.known_to.unwrap_or(self.start)
    }
}

/// Notes that a candidate is a secret up to `end`.
fn hide(hidden: &mut Vec<Hidden>, candidate: &Candidate, end: u64) {
    let &Candidate { start, secret, .. } = candidate;
    // What began first gives its name; of those that began together, what was known first.
    let from = hidden.partition_point(|hidden| hidden.start < start);
    let to = from + hidden[from..].iter().take_while(|hidden| hidden.start == start).count();
    match hidden[from..to].iter_mut().find(|hidden| hidden.secret == secret) {
        Some(hidden) => hidden.end = hidden.end.max(end),
        None => hidden.insert(to, Hidden { start, end, secret }),
    }
}

/// Whether nothing can follow: without a look at that, a line's end would wait for the next line.
fn leads_nowhere(dfa: &dense::DFA<Vec<u32>>, state: StateID) -> bool {
    (0..=u8::MAX).all(|byte| dfa.is_dead_state(dfa.next_state(state, byte)))
}

#[cfg(test)]
mod tests;
