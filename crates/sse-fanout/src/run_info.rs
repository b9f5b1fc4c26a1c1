//! `GET /v1/runs/{run_id}`: what is known of a run.

use std::collections::BTreeMap;

use runcast_bus::{Bus, BusError, EntryId};
use runcast_protocol::{Batch, Channel, Cursor, Lane, RunId, RunState, Sequence, State, VariationId, Writer};
use serde::Serialize;

/// What is known of a run.
#[derive(Debug, Serialize)]
pub struct RunInfo {
    /// The run.
    pub run_id: RunId,
    /// Running until all its variations have ended, then the worst of their states.
    pub state: State,
    /// Its variations.
    pub variations: BTreeMap<VariationId, VariationInfo>,
    /// Where all its lanes stand: `after` this comes what is said from now on.
    pub cursor: Cursor,
}

/// What is known of a variation.
#[derive(Debug, Default, Serialize)]
pub struct VariationInfo {
    /// What it last said of itself; none if nothing yet.
    pub state: Option<State>,
    /// Channel → last sequence.
    pub positions: BTreeMap<&'static str, Sequence>,
}

/// Asks about a run, of Redis or, if that knows no such run, what is archived; none if nothing is known.
///
/// # Errors
/// [`BusError`] if Redis cannot be asked.
pub async fn run_info(bus: &Bus, run: &RunId) -> Result<Option<RunInfo>, BusError> {
    let lanes = bus.lanes(run).await?;
    let (cursor, state): (Cursor, RunState) = if lanes.is_empty() {
        let Some(past) = bus.past_run(run).answer().await? else { return Ok(None) };
        (past.cursor.clone(), RunState::recalled(&past))
    } else {
        let cursor = lanes.into_iter().map(|(lane, at)| (lane, at.last)).collect();
        (cursor, read_state(bus, run, RunState::default()).await?)
    };
    let mut variations: BTreeMap<VariationId, VariationInfo> = BTreeMap::new();
    for (variation, state) in state.variations() {
        variations.entry(variation.clone()).or_default().state = *state;
    }
    for (lane, last) in cursor.lanes() {
        if let Some(variation) = lane.writer.variation() {
            let info = variations.entry(variation.clone()).or_default();
            info.positions.insert(lane.channel.as_str(), last);
        }
    }
    Ok(Some(RunInfo { run_id: run.clone(), state: state.state(), variations, cursor }))
}

/// Reads the states that a run's variations have said so far, on top of what is known from the archive.
///
/// # Errors
/// [`BusError`] if Redis cannot be asked.
pub async fn read_state(bus: &Bus, run: &RunId, mut state: RunState) -> Result<RunState, BusError> {
    // Any lane of the shared stream leads to it.
    let stream = Lane { channel: Channel::Status, writer: Writer::Control };
    let mut after = EntryId::default();
    loop {
        let page = bus.read(run, &stream, after, 256).await?;
        for batch in page.batches.into_iter().filter_map(|payload| Batch::parse(payload).ok()) {
            state.apply(&batch.lane, &batch.entries);
        }
        if page.is_last {
            return Ok(state);
        }
        after = page.end;
    }
}
