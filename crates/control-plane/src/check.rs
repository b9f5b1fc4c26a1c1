//! What callers may send; everything else is refused by the field's name.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use prost_types::Value as ProstValue;
use runcast_protocol::grpc::control::{
    RunState, SendCommandRequest, command, send_command_request::Expiration,
};
use runcast_protocol::{Action, CommandId, RunId, VariationId};

use crate::convert;
use crate::error::Refusal;

/// Largest patch, payload or input, in bytes as JSON.
const MAX_BYTES: usize = 256 << 10;
/// How long a command may wait for its end, if its caller does not say.
const DEFAULT_TTL: SignedDuration = SignedDuration::from_secs(30);
/// How long at most.
const MAX_TTL: SignedDuration = SignedDuration::from_hours(24);
/// How long an agent may take to end by itself, if the caller does not say.
const DEFAULT_GRACE: Duration = Duration::from_secs(10);
/// How long at most.
const MAX_GRACE: Duration = Duration::from_secs(3600);
/// Longest idempotency key, in characters.
const MAX_REQUEST_ID: usize = 128;
/// Longest reason, in characters.
const MAX_REASON: usize = 1000;

/// A request to send a command, as far as it can be judged by itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    /// The run.
    pub run: RunId,
    /// For whom; all if empty.
    pub variations: Vec<VariationId>,
    /// What is to be done.
    pub action: Action,
    /// When it expires.
    pub deadline: Timestamp,
    /// The idempotency key.
    pub request_id: Option<String>,
}

/// Reads `runs/{run}`.
///
/// # Errors
/// [`Refusal::Invalid`].
pub fn run_name(field: &str, name: &str) -> Result<RunId, Refusal> {
    let id = name.strip_prefix("runs/").ok_or_else(|| Refusal::invalid(field, "expected runs/{run}"))?;
    RunId::new(id).map_err(|error| Refusal::invalid(field, error))
}

/// Reads `runs/{run}/commands/{command}`.
///
/// # Errors
/// [`Refusal::Invalid`].
pub fn command_name(name: &str) -> Result<(RunId, CommandId), Refusal> {
    let parts: Vec<&str> = name.split('/').collect();
    let ["runs", run, "commands", command] = parts.as_slice() else {
        return Err(Refusal::invalid("name", "expected runs/{run}/commands/{command}"));
    };
    let run = RunId::new(run).map_err(|error| Refusal::invalid("name", error))?;
    Ok((run, CommandId::new(command).map_err(|error| Refusal::invalid("name", error))?))
}

/// Reads a list of variations, each of them once.
///
/// # Errors
/// [`Refusal::Invalid`].
pub fn variations(ids: &[String]) -> Result<Vec<VariationId>, Refusal> {
    let mut variations = Vec::with_capacity(ids.len());
    for (index, id) in ids.iter().enumerate() {
        let field = format!("variation_ids[{index}]");
        let id = VariationId::new(id).map_err(|error| Refusal::invalid(&field, error))?;
        if variations.contains(&id) {
            return Err(Refusal::invalid(field, format!("{id} is there twice")));
        }
        variations.push(id);
    }
    Ok(variations)
}

/// Reads an idempotency key.
///
/// # Errors
/// [`Refusal::Invalid`].
pub fn request_id(text: String) -> Result<Option<String>, Refusal> {
    short("request_id", text, MAX_REQUEST_ID)
}

/// Reads a reason for people.
///
/// # Errors
/// [`Refusal::Invalid`].
pub fn reason(text: String) -> Result<Option<String>, Refusal> {
    short("reason", text, MAX_REASON)
}

fn short(field: &str, text: String, max: usize) -> Result<Option<String>, Refusal> {
    if text.chars().count() > max {
        return Err(Refusal::invalid(field, format!("at most {max} characters")));
    }
    Ok(Some(text).filter(|text| !text.is_empty()))
}

/// How many a page holds.
///
/// # Errors
/// [`Refusal::Invalid`].
pub fn page_size(size: i32) -> Result<usize, Refusal> {
    match usize::try_from(size) {
        Ok(0) => Ok(100),
        Ok(size) => Ok(size.min(1000)),
        Err(_) => Err(Refusal::invalid("page_size", "expected 0 or more")),
    }
}

/// Reads a list of states to look for.
///
/// # Errors
/// [`Refusal::Invalid`].
pub fn states(states: &[i32]) -> Result<Vec<RunState>, Refusal> {
    let read = |(index, state): (usize, &i32)| match RunState::try_from(*state) {
        Ok(state) if state != RunState::Unspecified => Ok(state),
        _ => Err(Refusal::invalid(format!("states[{index}]"), format!("{state} is no state of a run"))),
    };
    states.iter().enumerate().map(read).collect()
}

/// Reads a request to send a command.
///
/// # Errors
/// [`Refusal::Invalid`].
pub fn order(request: SendCommandRequest, now: Timestamp) -> Result<Order, Refusal> {
    let run = run_name("parent", &request.parent)?;
    let variations = variations(&request.variation_ids)?;
    let action = request.command.and_then(|command| command.action);
    let action = action.ok_or_else(|| Refusal::invalid("command.action", "say what is to be done"))?;
    Ok(Order {
        run,
        variations,
        action: read_action(action)?,
        deadline: deadline(request.expiration, now)?,
        request_id: request_id(request.request_id)?,
    })
}

fn deadline(expiration: Option<Expiration>, now: Timestamp) -> Result<Timestamp, Refusal> {
    let (field, deadline) = match expiration {
        None => return Ok(now + DEFAULT_TTL),
        Some(Expiration::Ttl(ttl)) => {
            let ttl = convert::duration(ttl).ok_or_else(|| Refusal::invalid("ttl", "not a duration"))?;
            ("ttl", now.checked_add(ttl).ok())
        }
        Some(Expiration::ExpireTime(time)) => ("expire_time", convert::time(time)),
    };
    let deadline = deadline.ok_or_else(|| Refusal::invalid(field, "not a time"))?;
    if deadline <= now {
        return Err(Refusal::invalid(field, format!("lies in the past: {deadline} is not after {now}")));
    }
    if deadline.duration_since(now) > MAX_TTL {
        return Err(Refusal::invalid(field, "lies more than 24 h ahead"));
    }
    Ok(deadline)
}

fn read_action(action: command::Action) -> Result<Action, Refusal> {
    Ok(match action {
        command::Action::Pause(_) => Action::Pause,
        command::Action::Resume(_) => Action::Resume,
        command::Action::Stop(stop) => {
            let grace = match stop.grace_period {
                None => DEFAULT_GRACE,
                Some(grace) => {
                    let grace = convert::duration(grace).and_then(|grace| Duration::try_from(grace).ok());
                    grace
                        .filter(|grace| *grace <= MAX_GRACE)
                        .ok_or_else(|| Refusal::invalid("command.stop.grace_period", "expected 0 s to 1 h"))?
                }
            };
            Action::Stop { grace_ms: u64::try_from(grace.as_millis()).unwrap_or(u64::MAX) }
        }
        command::Action::UpdateConfig(update) => {
            let field = "command.update_config.patch";
            let patch = update.patch.ok_or_else(|| Refusal::invalid(field, "a patch is an object"))?;
            Action::Config { patch: sized(field, convert::json_object(patch))? }
        }
        command::Action::Input(input) => {
            if input.text.is_empty() || input.text.len() > MAX_BYTES {
                return Err(Refusal::invalid(
                    "command.input.text",
                    format!("expected 1 to {MAX_BYTES} bytes"),
                ));
            }
            Action::Input { text: input.text }
        }
        command::Action::Custom(custom) => {
            let field = "command.custom.action_id";
            // The same rules as for ids, so that it may stand anywhere.
            CommandId::new(&custom.action_id)
                .map_err(|_| Refusal::invalid(field, "expected 1 to 128 of A-Z a-z 0-9 . _ -"))?;
            let payload = convert::json(custom.payload.unwrap_or(ProstValue { kind: None }));
            Action::Custom { name: custom.action_id, payload: sized("command.custom.payload", payload)? }
        }
    })
}

fn sized(field: &str, value: Result<serde_json::Value, &'static str>) -> Result<serde_json::Value, Refusal> {
    let value = value.map_err(|why| Refusal::invalid(field, why))?;
    let size = value.to_string().len();
    if size > MAX_BYTES {
        return Err(Refusal::invalid(field, format!("{size} bytes as JSON; at most {MAX_BYTES}")));
    }
    Ok(value)
}
