//! What the control-plane decides to say of a run. Pure: a plan is written only if nothing happened since
//! the log was read, and made anew otherwise.

use std::collections::BTreeMap;

use jiff::Timestamp;
use runcast_protocol::{
    Channel, CommandId, Control, Ended, Issued, Json, Lane, Sequence, State, Status, Step, VariationId,
    Writer,
};
use serde::Serialize;

use crate::run_log::{Created, RunLog};

/// Messages for one of the control-plane's lanes, and what they were decided on.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The lane they are for.
    pub lane: Lane,
    /// What is said of whom.
    pub items: Vec<(VariationId, Json)>,
    /// The lanes that were taken into account, and how far they were read.
    pub read: Vec<(Lane, Sequence)>,
}

impl Plan {
    fn new(channel: Channel, items: Vec<(VariationId, Json)>, read: Vec<(Lane, Sequence)>) -> Option<Self> {
        (!items.is_empty()).then_some(Self { lane: ours(channel), items, read })
    }
}

/// The control-plane's lane on a channel.
pub fn ours(channel: Channel) -> Lane {
    Lane { channel, writer: Writer::Control }
}

/// Issues a command to each of `variations`.
pub fn issue(issued: &Issued, variations: &[VariationId]) -> Option<Plan> {
    let content = Json::of(&Control::Issued(issued.clone()));
    let items = variations.iter().map(|variation| (variation.clone(), content.clone())).collect();
    // What it is decided on, idempotency keys among it, is in the control lane itself.
    Plan::new(Channel::Control, items, Vec::new())
}

/// Ends what has expired by `now`.
pub fn expire(log: &RunLog, now: Timestamp) -> Option<Plan> {
    let open = log.due(now).flat_map(|command| {
        let lives = command.lives.iter().filter(|(_, life)| !life.step().is_terminal());
        lives.map(|(variation, _)| (command.issued.command.clone(), variation.clone()))
    });
    end(log, open.collect(), Control::Expired, None, None)
}

/// Calls a command back from those to whom it was not delivered.
pub fn cancel(log: &RunLog, id: &CommandId, caller: &str, reason: Option<String>) -> Option<Plan> {
    let command = log.command(id)?;
    let waiting = command.lives.iter().filter(|(_, life)| life.step() == Step::Issued);
    let waiting = waiting.map(|(variation, _)| (id.clone(), variation.clone())).collect();
    end(log, waiting, Control::Cancelled, Some(caller.to_owned()), reason)
}

fn end(
    log: &RunLog,
    open: Vec<(CommandId, VariationId)>,
    how: impl Fn(Ended) -> Control,
    caller: Option<String>,
    reason: Option<String>,
) -> Option<Plan> {
    let mut read = BTreeMap::new();
    let items = open.into_iter().map(|(command, variation)| {
        let lane = Lane::of(Channel::Acks, &variation);
        let acks = log.position(&lane);
        read.insert(lane, acks);
        let ended = Ended { command, acks, caller: caller.clone(), reason: reason.clone() };
        (variation, Json::of(&how(ended)))
    });
    let items = items.collect();
    Plan::new(Channel::Control, items, read.into_iter().collect())
}

/// Says of those of `variations` that are at work still that they are lost.
pub fn lose(log: &RunLog, variations: &[VariationId], reason: &str) -> Option<Plan> {
    let at_work = variations.iter().filter(|variation| log.state_of(variation) == Some(State::Running));
    say(log, at_work, &Status::new(State::Lost).because(reason))
}

/// Says of all variations that have not ended that they are cancelled.
pub fn end_run(log: &RunLog, reason: &str) -> Option<Plan> {
    let open =
        log.variations().keys().filter(|variation| !log.state_of(variation).is_some_and(State::is_terminal));
    say(log, open, &Status::new(State::Cancelled).because(reason))
}

fn say<'a>(log: &RunLog, variations: impl Iterator<Item = &'a VariationId>, status: &Status) -> Option<Plan> {
    let content = Json::of(status);
    let mut read = Vec::new();
    let items = variations.map(|variation| {
        let lane = Lane::of(Channel::Status, variation);
        read.push((lane.clone(), log.position(&lane)));
        (variation.clone(), content.clone())
    });
    let items = items.collect();
    Plan::new(Channel::Status, items, read)
}

/// Begins a run with its variations.
pub fn create(variations: &[VariationId], created: &Created) -> Option<Plan> {
    #[derive(Serialize)]
    struct Content<'a> {
        #[serde(flatten)]
        status: Status,
        labels: &'a BTreeMap<String, String>,
        created_by: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        request_id: Option<&'a str>,
    }
    let count = u32::try_from(variations.len()).ok();
    let content = Json::of(&Content {
        status: Status { variations: count, ..Status::new(State::Pending) },
        labels: &created.labels,
        created_by: &created.creator,
        request_id: created.request_id.as_deref(),
    });
    let items = variations.iter().map(|variation| (variation.clone(), content.clone())).collect();
    // A sidecar that began the run meanwhile said so first on one of these.
    let read = variations.iter().map(|variation| (Lane::of(Channel::Status, variation), Sequence::NONE));
    Plan::new(Channel::Status, items, read.collect())
}
