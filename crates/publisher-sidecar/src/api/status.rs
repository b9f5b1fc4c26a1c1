//! `GET /v1/status`: where the lanes stand.

use std::collections::BTreeMap;

use http::{Response, StatusCode};
use runcast_protocol::{CommandId, RunId, Sequence, Status, Step, VariationId};
use runcast_runtime::http::{Body, json};
use serde::Serialize;

use super::Api;
use crate::breaker::BreakerState;
use crate::publisher::LanePosition;

#[derive(Serialize)]
struct Report<'a> {
    run_id: &'a RunId,
    variation_id: &'a VariationId,
    /// How the variation ended; none while messages are taken.
    finished: Option<Status>,
    lanes: BTreeMap<String, LaneReport>,
    /// None if everything is held in memory.
    journal: Option<JournalReport>,
    /// The circuit breaker before Redis: closed if all is well.
    breaker: &'static str,
    commands: CommandsReport,
    lease: LeaseReport<'a>,
}

#[derive(Serialize)]
struct CommandsReport {
    /// Those that have not ended, in the order in which they were issued.
    open: Vec<CommandReport>,
    /// See `GET /v1/config`.
    config_version: Sequence,
}

#[derive(Serialize)]
struct CommandReport {
    command: CommandId,
    /// None if it cannot be read.
    action: Option<&'static str>,
    step: Step,
}

#[derive(Serialize)]
struct LeaseReport<'a> {
    holder: &'a str,
    ttl_seconds: f64,
    /// Time since it was renewed; none before it was first taken, and after it was let go.
    age_seconds: Option<f64>,
    /// How often it was found to have lapsed.
    lapses: u64,
}

#[derive(Serialize)]
struct JournalReport {
    bytes: u64,
    /// Messages not known to be safe in Redis.
    messages: u64,
    /// Age of the oldest of them.
    oldest_seconds: Option<f64>,
}

#[derive(Serialize)]
struct LaneReport {
    /// Last number given out; none before Redis was reached for the first time.
    accepted: Option<Sequence>,
    /// Last number that is in Redis.
    appended: Option<Sequence>,
    /// Last number that is known to be safe there.
    safe: Option<Sequence>,
    pending: u64,
    bytes: usize,
}

pub(super) fn answer(api: &Api) -> Response<Body> {
    let identity = api.publisher.identity();
    let lanes = api.publisher.positions().map(|(lane, position)| {
        let LanePosition { taken, appended, safe, pending, bytes, .. } = position;
        (lane.to_string(), LaneReport { accepted: taken, appended, safe, pending, bytes })
    });
    let journal = api.publisher.journal().map(|stats| JournalReport {
        bytes: stats.bytes,
        messages: stats.messages,
        oldest_seconds: stats.oldest.map(|age| age.as_secs_f64()),
    });
    let breaker = match api.publisher.breaker() {
        BreakerState::Closed => "closed",
        BreakerState::HalfOpen => "half-open",
        BreakerState::Open => "open",
    };
    let lease = api.lease.state();
    let inbox = api.desk.inbox();
    let open = inbox.open().map(|(command, standing)| {
        let action =
            standing.order.as_ref().and_then(|order| Some(order.as_ref().ok()?.issued.action.name()));
        CommandReport { command: command.clone(), action, step: standing.step }
    });
    let report = Report {
        run_id: &identity.run,
        variation_id: &identity.variation,
        finished: api.phases.finished(),
        lanes: lanes.collect(),
        journal,
        breaker,
        commands: CommandsReport { open: open.collect(), config_version: inbox.document().version() },
        lease: LeaseReport {
            holder: api.lease.holder(),
            ttl_seconds: api.lease.ttl().as_secs_f64(),
            age_seconds: lease.renewed.filter(|_| !lease.released).map(|at| at.elapsed().as_secs_f64()),
            lapses: lease.lapses,
        },
    };
    json(StatusCode::OK, &report)
}
