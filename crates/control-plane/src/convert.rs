//! Between our own words and those of protobuf.

use jiff::{SignedDuration, Timestamp};
use prost_types::value::Kind;
use prost_types::{Duration, ListValue, Struct, Timestamp as ProstTime, Value as ProstValue};
use runcast_protocol::grpc::control as proto;
use runcast_protocol::{Action, RunId, State, Step};
use serde_json::{Map, Number, Value};

use crate::life::{Life, Taken};
use crate::run_log::{Command, RunLog};

/// Deepest JSON that is taken.
const MAX_DEPTH: usize = 64;

/// A time, if it is one that we know.
pub fn time(time: ProstTime) -> Option<Timestamp> {
    Timestamp::new(time.seconds, time.nanos).ok()
}

/// A duration, if its parts agree.
pub fn duration(duration: Duration) -> Option<SignedDuration> {
    let valid = duration.nanos.abs() < 1_000_000_000 && duration.seconds.abs() <= 315_576_000_000;
    valid.then(|| SignedDuration::new(duration.seconds, duration.nanos))
}

pub(crate) fn proto_time(time: Timestamp) -> ProstTime {
    ProstTime { seconds: time.as_second(), nanos: time.subsec_nanosecond() }
}

/// A JSON object.
///
/// # Errors
/// What is no JSON about it.
pub fn json_object(fields: Struct) -> Result<Value, &'static str> {
    object(fields, 0)
}

/// A JSON value.
///
/// # Errors
/// What is no JSON about it.
pub fn json(value: ProstValue) -> Result<Value, &'static str> {
    nested(value, 0)
}

fn object(fields: Struct, depth: usize) -> Result<Value, &'static str> {
    let fields = fields.fields.into_iter().map(|(name, value)| Ok((name, nested(value, depth)?)));
    Ok(Value::Object(fields.collect::<Result<Map<_, _>, &'static str>>()?))
}

fn nested(value: ProstValue, depth: usize) -> Result<Value, &'static str> {
    if depth > MAX_DEPTH {
        return Err("nested too deeply");
    }
    Ok(match value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(value)) => value.into(),
        Some(Kind::StringValue(text)) => text.into(),
        Some(Kind::NumberValue(number)) => {
            Value::Number(whole_or_not(number).ok_or("a number that JSON does not know")?)
        }
        Some(Kind::StructValue(fields)) => object(fields, depth + 1)?,
        Some(Kind::ListValue(ListValue { values })) => {
            Value::Array(values.into_iter().map(|value| nested(value, depth + 1)).collect::<Result<_, _>>()?)
        }
    })
}

/// Protobuf knows only doubles; a whole number is to look like one again.
fn whole_or_not(number: f64) -> Option<Number> {
    let whole = number.fract() == 0.0 && number.abs() < 9_007_199_254_740_992.0;
    if whole { Some(Number::from(number as i64)) } else { Number::from_f64(number) }
}

fn proto_value(value: &Value) -> ProstValue {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(*value),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        Value::String(text) => Kind::StringValue(text.clone()),
        Value::Array(values) => {
            Kind::ListValue(ListValue { values: values.iter().map(proto_value).collect() })
        }
        Value::Object(fields) => Kind::StructValue(proto_struct(fields)),
    };
    ProstValue { kind: Some(kind) }
}

fn proto_struct(fields: &Map<String, Value>) -> Struct {
    Struct { fields: fields.iter().map(|(name, value)| (name.clone(), proto_value(value))).collect() }
}

/// A command as callers see it.
pub fn command(run: &RunId, command: &Command) -> proto::Command {
    let issued = &command.issued;
    proto::Command {
        name: format!("runs/{run}/commands/{}", issued.command),
        action: Some(action(&issued.action)),
        caller: issued.caller.clone(),
        request_id: issued.request_id.clone().unwrap_or_default(),
        create_time: Some(proto_time(command.time)),
        expire_time: Some(proto_time(issued.deadline)),
        state: step(command.step()).into(),
        outcomes: command
            .lives
            .iter()
            .map(|(variation, life)| proto::CommandOutcome {
                variation_id: variation.to_string(),
                state: step(life.step()).into(),
                steps: steps(command, life),
            })
            .collect(),
    }
}

fn steps(command: &Command, life: &Life) -> Vec<proto::CommandStep> {
    let issued = Taken {
        step: Step::Issued,
        time: command.time,
        reason: None,
        result: None,
        caller: Some(command.issued.caller.clone()),
    };
    let all = std::iter::once(&issued).chain(life.steps());
    all.map(|taken| proto::CommandStep {
        state: step(taken.step).into(),
        time: Some(proto_time(taken.time)),
        reason: taken.reason.clone().unwrap_or_default(),
        result: taken.result.as_ref().map(proto_value),
        caller: taken.caller.clone().unwrap_or_default(),
    })
    .collect()
}

fn action(action: &Action) -> proto::command::Action {
    use proto::command::Action as Proto;
    match action {
        Action::Pause => Proto::Pause(proto::PauseAction {}),
        Action::Resume => Proto::Resume(proto::ResumeAction {}),
        Action::Stop { grace_ms } => Proto::Stop(proto::StopAction {
            grace_period: Some(Duration {
                seconds: i64::try_from(grace_ms / 1000).unwrap_or(i64::MAX),
                nanos: i32::try_from(grace_ms % 1000 * 1_000_000).unwrap_or_default(),
            }),
        }),
        Action::Config { patch } => {
            Proto::UpdateConfig(proto::UpdateConfigAction { patch: patch.as_object().map(proto_struct) })
        }
        Action::Input { text } => Proto::Input(proto::InputAction { text: text.clone() }),
        Action::Custom { name, payload } => Proto::Custom(proto::CustomAction {
            action_id: name.clone(),
            payload: Some(proto_value(payload)),
        }),
    }
}

fn step(step: Step) -> proto::CommandState {
    match step {
        Step::Issued => proto::CommandState::Issued,
        Step::Delivered => proto::CommandState::Delivered,
        Step::Accepted => proto::CommandState::Accepted,
        Step::Rejected => proto::CommandState::Rejected,
        Step::Applied => proto::CommandState::Applied,
        Step::Failed => proto::CommandState::Failed,
        Step::Expired => proto::CommandState::Expired,
        Step::Cancelled => proto::CommandState::Cancelled,
    }
}

/// A run as callers see it.
pub fn run(id: &RunId, log: &RunLog) -> proto::Run {
    let created = log.created();
    proto::Run {
        name: format!("runs/{id}"),
        state: state(log.state()).into(),
        variations: log
            .variations()
            .iter()
            .map(|(variation, known)| {
                let status = known.status.as_ref();
                proto::Variation {
                    variation_id: variation.to_string(),
                    state: state(log.state_of(variation).unwrap_or(State::Running)).into(),
                    reason: status.and_then(|status| status.reason.clone()).unwrap_or_default(),
                    update_time: known.time.map(proto_time),
                    exit_code: status.and_then(|status| status.exit_code),
                }
            })
            .collect(),
        variation_count: i32::try_from(log.expected()).unwrap_or(i32::MAX),
        labels: created.map(|created| created.labels.clone().into_iter().collect()).unwrap_or_default(),
        creator: created.map(|created| created.creator.clone()).unwrap_or_default(),
        create_time: log.since().map(proto_time),
        end_time: log.ended().map(proto_time),
    }
}

/// A state as callers see it.
pub fn state(state: State) -> proto::RunState {
    match state {
        State::Pending => proto::RunState::Pending,
        State::Running => proto::RunState::Running,
        State::Succeeded => proto::RunState::Succeeded,
        State::Failed => proto::RunState::Failed,
        State::Cancelled => proto::RunState::Cancelled,
        State::Lost => proto::RunState::Lost,
    }
}
