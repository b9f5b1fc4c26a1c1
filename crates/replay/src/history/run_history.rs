//! What there is of a run, in the archive and in Redis, at one moment.

use runcast_bus::{Bus, LaneReader, Scan};
use runcast_protocol::{Channel, Cursor, Lane, RunId, RunState, Selection, Sequence, State};

use crate::archive::ArchivedRun;
use crate::context::Context;
use crate::error::Error;
use crate::history::LaneHistory;

/// What there is of a run at the moment it was opened. Cheap to clone.
#[derive(Debug, Clone)]
pub struct RunHistory {
    /// The run.
    pub run: RunId,
    /// What is archived of it.
    pub archived: Option<ArchivedRun>,
    /// Commands to Redis, for what is not.
    pub bus: Bus,
    /// How far each lane goes.
    end: Cursor,
}

impl RunHistory {
    /// Looks where the run's lanes stand.
    ///
    /// # Errors
    /// [`Error::UnknownRun`] if neither Redis nor the archive knows it, or that one cannot be asked.
    pub async fn open(context: &Context, run: &RunId) -> Result<Self, Error> {
        let archived = context.archive.run(run).await?;
        let lanes = context.bus.lanes(run).await?;
        if archived.is_none() && lanes.is_empty() {
            return Err(Error::UnknownRun(run.clone()));
        }
        let mut end = archived.as_ref().map(|archived| archived.cursor().clone()).unwrap_or_default();
        for (lane, at) in lanes {
            if at.last > end.position(&lane) {
                end.set(&lane, at.last);
            }
        }
        Ok(Self { run: run.clone(), archived, bus: context.bus.clone(), end })
    }

    /// How far each lane goes.
    pub fn end(&self) -> &Cursor {
        &self.end
    }

    /// How far a lane is archived.
    pub fn archived_upto(&self, lane: &Lane) -> Sequence {
        self.archived.as_ref().map_or(Sequence::NONE, |archived| archived.cursor().position(lane))
    }

    /// The lanes that a selection chooses, in a fixed order.
    pub fn lanes(&self, selection: &Selection) -> Vec<Lane> {
        self.end.lanes().map(|(lane, _)| lane).filter(|lane| selection.has_lane(lane)).collect()
    }

    /// A lane's messages after `after` and up to `upto`.
    pub fn lane(&self, lane: Lane, after: Sequence, upto: Sequence) -> LaneHistory {
        let upto = upto.min(self.end.position(&lane));
        LaneHistory::new(self.clone(), LaneReader::new(lane, after, Scan::default()), upto)
    }

    /// What the run's variations said of their states.
    ///
    /// # Errors
    /// If archive or Redis cannot be read.
    pub async fn states(&self) -> Result<RunState, Error> {
        let mut states = RunState::default();
        for (lane, last) in self.end.lanes() {
            if let Some(variation) = lane.writer.variation() {
                states.learn(variation);
            }
            if lane.channel == Channel::Status {
                let mut history = self.lane(lane.clone(), Sequence::NONE, last);
                while let Some(chunk) = history.next().await? {
                    states.apply(&lane, &chunk.entries);
                }
            }
        }
        Ok(states)
    }

    /// Whether nothing can follow any more. A run with a lost variation may yet go on: its sidecar may
    /// come back.
    pub fn is_final(states: &RunState) -> bool {
        states.state().is_terminal() && states.variations().values().all(|state| *state != Some(State::Lost))
    }
}
