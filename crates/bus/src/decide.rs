//! Decide: how several replicas write one lane.
//!
//! The control-plane's replicas number the same lanes. None of them holds the lane: each reads the run
//! up to some point, decides, and appends on condition that nothing has happened since. Of two that
//! decide at the same time one is told to read on, finds what the other decided, and decides anew.

use bytes::Bytes;
use fred::types::Value;
use runcast_protocol::{Lane, RunId, Sequence, keys};

use crate::{Bus, BusError, Limits};

/// A batch to append to a lane with several writers, and what it was decided on.
#[derive(Debug, Clone)]
pub struct Decision {
    /// The run.
    pub run: RunId,
    /// The lane, on a channel that all writers of the run share.
    pub lane: Lane,
    /// Sequence of the batch's first message: the next one, as far as the writer has read.
    pub first: Sequence,
    /// Sequence of its last message.
    pub last: Sequence,
    /// The batch, as [`runcast_protocol::BatchWriter`] makes it.
    pub batch: Bytes,
    /// Other lanes that were taken into account, and how far they were read.
    pub read: Vec<(Lane, Sequence)>,
}

/// What became of a decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decided {
    /// It stands.
    Done,
    /// Something happened meanwhile, or the decision stands already: read on, and decide anew.
    Moved {
        /// A lane that stands elsewhere.
        lane: Lane,
        /// Where it stands.
        last: Sequence,
    },
}

impl Bus {
    /// Appends a decision and publishes it if nothing happened since it was made, at once or not at all.
    ///
    /// # Errors
    /// [`BusError`] if Redis cannot be asked; the decision may or may not stand.
    pub async fn decide(&self, decision: Decision, limits: Limits) -> Result<Decided, BusError> {
        debug_assert!(!decision.lane.channel.has_one_writer(), "its stream is shared");
        let keys = vec![keys::stream(&decision.run, &decision.lane), keys::lanes(&decision.run)];
        let mut args: Vec<Value> = vec![
            decision.lane.to_string().into(),
            decision.first.to_string().into(),
            decision.last.to_string().into(),
            decision.batch.into(),
            limits.ttl.as_secs().max(1).to_string().into(),
            limits.entries.to_string().into(),
            if self.is_sharded() { "SPUBLISH" } else { "PUBLISH" }.into(),
        ];
        args.extend(
            decision.read.iter().flat_map(|(lane, last)| [lane.to_string().into(), last.to_string().into()]),
        );
        let fields: Vec<String> = self.decide_script(keys, args).await?.convert()?;
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        let moved = |lane: &str, last: &str| {
            let last = last.parse().ok().and_then(|last| Sequence::new(last).ok())?;
            Some(Decided::Moved { lane: lane.parse().ok()?, last })
        };
        let decided = match fields.as_slice() {
            ["OK"] => Some(Decided::Done),
            ["MOVED", lane, last] => moved(lane, last),
            _ => None,
        };
        decided.ok_or_else(|| BusError::Reply(format!("decide answered {fields:?}")))
    }
}
