//! The read model of a run as it is told to clients.

use std::collections::BTreeMap;

use jiff::Timestamp;
use runcast_protocol::{Channel, Cursor, RunId, State, VariationId, timestamp};
use serde::{Serialize, Serializer};

use super::errors::KEPT;
use super::lane_fold::{Said, Tally};
use super::summary::Summary;

/// A time in microseconds since the epoch; on the wire RFC 3339.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Micros(pub i64);

impl Serialize for Micros {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let time = Timestamp::from_microsecond(self.0).unwrap_or(Timestamp::UNIX_EPOCH);
        timestamp::Text(time).serialize(serializer)
    }
}

/// A run as a whole. Bytes are of content: of the text of output, of the JSON of everything else.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunSummary {
    /// The run.
    pub run_id: RunId,
    /// Running until all its variations have ended, then the worst of their states.
    pub state: State,
    /// When its first variation started.
    pub started: Option<Micros>,
    /// When its last variation ended, if all have.
    pub ended: Option<Micros>,
    /// From its start to its end, or to the last that was heard of it.
    pub duration_seconds: Option<f64>,
    /// Its variations.
    pub variations: BTreeMap<VariationId, VariationSummary>,
    /// What was said, by channel.
    pub channels: BTreeMap<&'static str, Volume>,
    /// Tokens of all variations.
    pub tokens: u64,
    /// These over the time from the first to the last output.
    pub tokens_per_second: Option<f64>,
    /// From the first time a variation was running to the first output.
    pub first_token_seconds: Option<f64>,
    /// The last errors, the oldest first.
    pub errors: Vec<ErrorReport>,
    /// How many errors there were.
    pub error_count: u64,
    /// Messages that could not be had, or could not be read.
    pub missing: u64,
    /// Whether the archive holds it, as a whole or in part.
    pub archived: bool,
    /// What is counted in.
    pub cursor: Cursor,
}

/// A variation as a whole.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VariationSummary {
    /// Its state; none if it did not say one.
    pub state: Option<State>,
    /// When it was first running, or first heard of.
    pub started: Option<Micros>,
    /// When it ended, if it has.
    pub ended: Option<Micros>,
    /// How its process exited, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Why it is in its state, if it says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Messages about it.
    pub messages: u64,
    /// Bytes of their content.
    pub bytes: u64,
    /// Tokens of its output: those that the agent counts in `metadata.tokens`, or else its messages.
    pub tokens: u64,
    /// These over the time from the first to the last output.
    pub tokens_per_second: Option<f64>,
    /// From running to the first output.
    pub first_token_seconds: Option<f64>,
    /// The end of its output, at most 200 characters.
    pub last_words: String,
}

/// How much was said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Volume {
    /// Messages.
    pub messages: u64,
    /// Bytes of their content.
    pub bytes: u64,
}

/// An error.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ErrorReport {
    /// The variation that it is about.
    pub variation_id: VariationId,
    /// When.
    pub time: Micros,
    /// What.
    pub text: String,
}

/// What several lanes said about one variation.
#[derive(Default)]
struct Gathered<'a> {
    own: Option<&'a Said>,
    control: Option<&'a Said>,
    volume: Volume,
    first: Option<i64>,
    running: Option<i64>,
    output: Option<&'a Tally>,
}

impl RunSummary {
    /// What is told of a summary.
    pub fn of(run: &RunId, summary: &Summary, archived: bool) -> Self {
        let gathered = gather(summary);
        let variations: BTreeMap<VariationId, VariationSummary> =
            gathered.iter().map(|(variation, about)| ((*variation).clone(), about.report())).collect();
        let expected = summary.lanes().values().map(|lane| lane.expected).max().unwrap_or(0) as usize;
        let state = state(&variations, expected);
        let started = variations.values().filter_map(|variation| variation.started).min();
        let ended = variations.values().filter_map(|variation| variation.ended).max();
        let ended = ended.filter(|_| state.is_terminal());
        let heard = summary.lanes().values().filter_map(|lane| lane.clock).max().map(Micros);
        let outputs = || gathered.values().filter_map(|about| about.output);
        let first_output = outputs().filter_map(|tally| tally.first).min();
        let last_output = outputs().filter_map(|tally| tally.last).max();
        let running = gathered.values().filter_map(|about| about.running).min();
        let tokens = variations.values().map(|variation| variation.tokens).sum();
        Self {
            run_id: run.clone(),
            state,
            started,
            ended,
            duration_seconds: seconds(started.map(|at| at.0), ended.or(heard).map(|at| at.0)),
            channels: channels(summary),
            tokens,
            tokens_per_second: rate(tokens, first_output, last_output),
            first_token_seconds: seconds(running, first_output),
            errors: errors(summary),
            error_count: summary.lanes().values().map(|lane| lane.errors.count).sum(),
            missing: summary.missing(),
            archived,
            cursor: summary.cursor().clone(),
            variations,
        }
    }

    /// All messages of the run.
    pub fn messages(&self) -> u64 {
        self.channels.values().map(|volume| volume.messages).sum()
    }

    /// Bytes of the content of all of them.
    pub fn bytes(&self) -> u64 {
        self.channels.values().map(|volume| volume.bytes).sum()
    }
}

impl<'a> Gathered<'a> {
    fn report(&self) -> VariationSummary {
        let said = self.said();
        let state = said.map(|said| said.status.state);
        let over = said.filter(|said| said.status.state.is_terminal());
        let output = self.output;
        let tokens = output.map_or(0, tokens);
        let (first, last) = (output.and_then(|tally| tally.first), output.and_then(|tally| tally.last));
        VariationSummary {
            state,
            started: self.running.or(self.first).map(Micros),
            ended: over.map(|said| Micros(said.at)),
            exit_code: said.and_then(|said| said.status.exit_code),
            reason: said.and_then(|said| said.status.reason.clone()),
            messages: self.volume.messages,
            bytes: self.volume.bytes,
            tokens,
            tokens_per_second: rate(tokens, first, last),
            first_token_seconds: seconds(self.running, first),
            last_words: output.map(|tally| tally.last_words.clone()).unwrap_or_default(),
        }
    }

    /// What counts of what its sidecar and the control-plane said. Between lanes there is no order but
    /// that of their clocks; but the control-plane declares an end only while the sidecar has told none, so
    /// one that the sidecar told came after. And whatever is said, pending was before.
    fn said(&self) -> Option<&'a Said> {
        let (Some(own), Some(control)) = (self.own, self.control) else { return self.own.or(self.control) };
        let is_pending = |said: &Said| said.status.state == State::Pending;
        let own_counts = own.status.state.is_terminal() || is_pending(control) || own.at >= control.at;
        Some(if own_counts && !is_pending(own) { own } else { control })
    }
}

fn gather(summary: &Summary) -> BTreeMap<&VariationId, Gathered<'_>> {
    let mut gathered: BTreeMap<&VariationId, Gathered<'_>> = BTreeMap::new();
    // A variation is known if it wrote, or if somebody told its state; what is said to it does not make it one.
    for (lane, fold) in summary.lanes() {
        let told = fold.about.keys().filter(|_| lane.channel == Channel::Status);
        for variation in lane.writer.variation().into_iter().chain(told) {
            gathered.entry(variation).or_default();
        }
    }
    for (lane, fold) in summary.lanes() {
        let own = lane.writer.variation();
        for (variation, tally) in &fold.about {
            let Some(about) = gathered.get_mut(variation) else { continue };
            about.volume.messages += tally.messages;
            about.volume.bytes += tally.bytes;
            about.first = [about.first, tally.first].into_iter().flatten().min();
            about.running = [about.running, tally.running].into_iter().flatten().min();
            let said = if own.is_some() { &mut about.own } else { &mut about.control };
            *said = tally.status.as_ref().or(*said);
            if lane.channel == Channel::Output {
                about.output = Some(tally);
            }
        }
    }
    gathered
}

/// The rule of [`runcast_protocol::RunState`].
fn state(variations: &BTreeMap<VariationId, VariationSummary>, expected: usize) -> State {
    let ended: Option<Vec<State>> =
        variations.values().map(|variation| variation.state.filter(|state| state.is_terminal())).collect();
    match ended {
        Some(states) if states.len() >= expected.max(1) => State::of_run(states),
        _ => State::Running,
    }
}

fn channels(summary: &Summary) -> BTreeMap<&'static str, Volume> {
    let mut channels: BTreeMap<&'static str, Volume> = BTreeMap::new();
    for (lane, fold) in summary.lanes() {
        let volume = channels.entry(lane.channel.as_str()).or_default();
        for tally in fold.about.values() {
            volume.messages += tally.messages;
            volume.bytes += tally.bytes;
        }
    }
    channels
}

fn errors(summary: &Summary) -> Vec<ErrorReport> {
    let mut notes: Vec<_> = summary.lanes().values().flat_map(|lane| &lane.errors.last).collect();
    notes.sort_by_key(|note| note.at);
    let kept = notes.split_off(notes.len().saturating_sub(KEPT));
    let reports = kept.into_iter().map(|note| ErrorReport {
        variation_id: note.variation.clone(),
        time: Micros(note.at),
        text: note.text.clone(),
    });
    reports.collect()
}

fn tokens(output: &Tally) -> u64 {
    output.tokens.unwrap_or(output.messages)
}

/// Tokens a second; none if all came at one time.
fn rate(tokens: u64, first: Option<i64>, last: Option<i64>) -> Option<f64> {
    let span = last?.saturating_sub(first?);
    (span > 0).then(|| rounded(tokens as f64 * 1e6 / span as f64))
}

/// Seconds between two times; zero if clocks say that the second was before the first.
fn seconds(from: Option<i64>, to: Option<i64>) -> Option<f64> {
    Some(to?.saturating_sub(from?).max(0) as f64 / 1e6)
}

fn rounded(number: f64) -> f64 {
    (number * 1e3).round() / 1e3
}
