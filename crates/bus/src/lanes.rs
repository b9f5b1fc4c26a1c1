//! The run's bookkeeping: where each lane stands.

use std::collections::{BTreeMap, HashMap};

use fred::interfaces::HashesInterface;
use runcast_protocol::{Lane, RunId, Sequence, keys};

use crate::{Bus, BusError};

/// Where a lane stands in Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneState {
    /// Its last sequence.
    pub last: Sequence,
    /// The epoch of the writer that holds it.
    pub epoch: u64,
}

impl Bus {
    /// Where each lane of a run stands; empty if Redis knows no such run.
    ///
    /// # Errors
    /// [`BusError`] if Redis cannot be asked.
    pub async fn lanes(&self, run: &RunId) -> Result<BTreeMap<Lane, LaneState>, BusError> {
        let fields: HashMap<String, String> = self.client().await.hgetall(keys::lanes(run)).await?;
        let known = fields.iter().filter_map(|(lane, state)| Some((lane.parse().ok()?, parse(state)?)));
        Ok(known.collect())
    }
}

/// Reads `<last sequence> <epoch>`.
pub(crate) fn parse(state: &str) -> Option<LaneState> {
    let (last, epoch) = state.split_once(' ')?;
    Some(LaneState { last: Sequence::new(last.parse().ok()?).ok()?, epoch: epoch.parse().ok()? })
}
