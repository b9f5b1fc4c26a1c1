//! What is known of a run's variations, from its status lanes. Pure.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::{
    Channel, End, Entry, Json, Lane, PastRun, RunId, Selection, Sequence, State, Status, VariationId,
};

/// What is known of a run's variations.
#[derive(Debug, Default)]
pub struct RunState {
    variations: BTreeMap<VariationId, Option<State>>,
    /// How many variations the run says it has, at least.
    expected: usize,
    applied: BTreeMap<Lane, Sequence>,
}

impl RunState {
    /// What the archive knows; its status messages count as applied.
    pub fn recalled(past: &PastRun) -> Self {
        let applied = past.cursor.lanes().filter(|(lane, _)| lane.channel == Channel::Status).collect();
        let mut state = Self { variations: past.variations.clone(), expected: past.expected, applied };
        for (lane, _) in past.cursor.lanes() {
            if let Some(variation) = lane.writer.variation() {
                state.learn(variation);
            }
        }
        state
    }

    /// Learns that a variation exists.
    pub fn learn(&mut self, variation: &VariationId) {
        if !self.variations.contains_key(variation) {
            self.variations.insert(variation.clone(), None);
        }
    }

    /// Applies status messages; true if they changed a state. What was applied before, or says
    /// nothing of a state, changes nothing.
    pub fn apply(&mut self, lane: &Lane, entries: &[Entry]) -> bool {
        let applied = self.applied.entry(lane.clone()).or_default();
        let mut changed = false;
        for entry in entries {
            if entry.sequence <= *applied {
                continue;
            }
            *applied = entry.sequence;
            let state = self.variations.entry(entry.variation.clone()).or_default();
            if let Some(status) = status_of(&entry.line) {
                changed |= state.replace(status.state) != Some(status.state);
                self.expected = self.expected.max(status.variations.unwrap_or(0) as usize);
            }
        }
        changed
    }

    /// The variations known so far, with their states as far as they said one.
    pub fn variations(&self) -> &BTreeMap<VariationId, Option<State>> {
        &self.variations
    }

    /// The last status message of a lane that was applied.
    pub fn position(&self, lane: &Lane) -> Sequence {
        self.applied.get(lane).copied().unwrap_or_default()
    }

    /// How many variations the run says it has, at least; 0 if it has not said.
    pub fn expected(&self) -> usize {
        self.expected
    }

    /// The state of the whole run; running until all the variations it has have ended.
    pub fn state(&self) -> State {
        let outcome = self.outcome(&Selection::default());
        outcome.map_or(State::Running, |variations| State::of_run(variations.into_values()))
    }

    /// How what a selection chooses ended, if all of it has.
    pub fn end(&self, run: &RunId, selection: &Selection) -> Option<End> {
        let variations = self.outcome(selection)?;
        let state = State::of_run(variations.values().copied());
        Some(End { run_id: run.clone(), state, variations })
    }

    fn outcome(&self, selection: &Selection) -> Option<BTreeMap<VariationId, State>> {
        let chosen: Vec<&VariationId> = match selection.variations() {
            Some(named) => named.iter().collect(),
            None if self.variations.len() < self.expected.max(1) => return None,
            None => self.variations.keys().collect(),
        };
        let ended = chosen.into_iter().map(|variation| {
            let state = (*self.variations.get(variation)?)?;
            state.is_terminal().then(|| (variation.clone(), state))
        });
        ended.collect()
    }
}

fn status_of(line: &[u8]) -> Option<Status> {
    #[derive(Deserialize)]
    struct Content {
        content: Json,
    }
    serde_json::from_slice::<Content>(line).ok()?.content.read().ok()
}
