//! `runcast runs`: which runs there are.

mod catalog;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::future::ready;
use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context;
use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use runcast_bus::{Bus, BusError, EntryId, RedisConfig};
use runcast_protocol::{
    Batch, Channel, Lane, Message, RunId, Sequence, State, Status, VariationId, Writer, timestamp,
};
use serde::{Serialize, Serializer};

use crate::ago::ago;
use crate::arguments::{Format, RunsOptions};
use crate::server::Server;

/// Runs that are asked about at the same time.
const AT_ONCE: usize = 16;

/// What is known of a run.
#[derive(Debug, Serialize)]
struct Run {
    run_id: RunId,
    state: State,
    /// Each variation's state; none if it has not said one yet.
    variations: BTreeMap<VariationId, Option<State>>,
    messages: u64,
    #[serde(serialize_with = "wire_time")]
    last_activity: Option<Timestamp>,
}

/// Runs the command.
///
/// # Errors
/// If neither the replay service nor Redis can be asked.
pub(crate) async fn run(options: RunsOptions, redis: &str, replay: &Server) -> anyhow::Result<ExitCode> {
    let text = match catalog::ask(&options, replay).await? {
        Ok(runs) if options.output == Format::Json => serde_json::to_string_pretty(&runs)? + "\n",
        Ok(runs) if runs.is_empty() => none(&options),
        Ok(runs) => catalog::text(&runs, Timestamp::now())?,
        Err(why) => {
            eprintln!("runcast: {why}; this is what Redis itself knows");
            let runs = in_redis(&options, redis).await?;
            match options.output {
                Format::Json => serde_json::to_string_pretty(&runs)? + "\n",
                Format::Table if runs.is_empty() => none(&options),
                Format::Table => table(&runs, Timestamp::now()),
            }
        }
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn none(options: &RunsOptions) -> String {
    if options.state.is_empty() {
        "No runs. `runcast dev --demo` starts one.\n".to_owned()
    } else {
        "No runs in such a state.\n".to_owned()
    }
}

async fn in_redis(options: &RunsOptions, redis: &str) -> anyhow::Result<Vec<Run>> {
    let bus = Bus::connect(&RedisConfig::new(redis))?;
    let ids = bus.runs().await.context("`runcast doctor` tells more")?;
    let looks = stream::iter(ids).map(|run| look_at(&bus, run)).buffer_unordered(AT_ONCE);
    let mut runs: Vec<Run> = looks.try_filter_map(|run| ready(Ok(run))).try_collect().await?;
    runs.retain(|run| options.state.is_empty() || options.state.contains(&run.state));
    runs.sort_by(|a, b| b.last_activity.cmp(&a.last_activity).then_with(|| a.run_id.cmp(&b.run_id)));
    runs.truncate(options.limit as usize);
    Ok(runs)
}

/// None if the run expired in the meantime.
async fn look_at(bus: &Bus, run_id: RunId) -> Result<Option<Run>, BusError> {
    let lanes = bus.lanes(&run_id).await?;
    if lanes.is_empty() {
        return Ok(None);
    }
    let mut variations: BTreeMap<VariationId, Option<State>> = BTreeMap::new();
    let mut last_activity = None;
    let mut expected = 0;
    for message in statuses(bus, &run_id).await? {
        last_activity = last_activity.max(Some(message.timestamp));
        let state = variations.entry(message.variation_id).or_default();
        if let Ok(status) = message.content.read::<Status>() {
            *state = Some(status.state);
            expected = expected.max(status.variations.unwrap_or(0) as usize);
        }
    }
    for (lane, at) in &lanes {
        if let Some(variation) = lane.writer.variation() {
            variations.entry(variation.clone()).or_default();
        }
        if lane.channel.has_one_writer() && at.last > Sequence::NONE {
            last_activity = last_activity.max(last_said(bus, &run_id, lane, at.last).await?);
        }
    }
    // A run is not over before all the variations it says it has have ended.
    let unknown = expected.saturating_sub(variations.len());
    let states = variations.values().map(|state| state.unwrap_or(State::Running));
    let state = State::of_run(states.chain(std::iter::repeat_n(State::Running, unknown)));
    let messages = lanes.values().map(|at| at.last.get()).sum();
    Ok(Some(Run { run_id, state, variations, messages, last_activity }))
}

/// All status messages of a run that are kept.
pub(crate) async fn statuses(bus: &Bus, run: &RunId) -> Result<Vec<Message>, BusError> {
    // Any lane of the shared stream leads to it.
    let stream = Lane { channel: Channel::Status, writer: Writer::Control };
    let (mut messages, mut after) = (Vec::new(), EntryId::default());
    loop {
        let page = bus.read(run, &stream, after, 256).await?;
        let batches = page.batches.into_iter().filter_map(|payload| Batch::parse(payload).ok());
        messages.extend(
            batches.flat_map(|batch| batch.entries).filter_map(|entry| Message::parse(&entry.line).ok()),
        );
        if page.is_last {
            return Ok(messages);
        }
        after = page.end;
    }
}

/// When the last message of a lane with a stream of its own was said.
async fn last_said(
    bus: &Bus,
    run: &RunId,
    lane: &Lane,
    last: Sequence,
) -> Result<Option<Timestamp>, BusError> {
    let page = bus.read(run, lane, EntryId::after(last.previous()), 1).await?;
    let batch = page.batches.into_iter().next().and_then(|payload| Batch::parse(payload).ok());
    let message = batch.and_then(|batch| Message::parse(&batch.entries.last()?.line).ok());
    Ok(message.map(|message| message.timestamp))
}

fn wire_time<S: Serializer>(time: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    time.map(timestamp::Text).serialize(serializer)
}

fn table(runs: &[Run], now: Timestamp) -> String {
    let width = runs.iter().map(|run| run.run_id.as_str().len()).max().unwrap_or(0).max("RUN".len());
    let mut text =
        format!("{:width$}  {:9}  {:>10}  {:>10}  LAST ACTIVITY\n", "RUN", "STATE", "VARIATIONS", "MESSAGES");
    for run in runs {
        let ago = run.last_activity.map_or_else(|| "-".to_owned(), |time| ago(time, now));
        let (id, state, variations) = (run.run_id.as_str(), run.state.as_str(), run.variations.len());
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{id:width$}  {state:9}  {variations:>10}  {:>10}  {ago}", run.messages);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_lines_up_whatever_the_names() {
        let now: Timestamp = "2026-01-10T10:30:00Z".parse().unwrap();
        let run = |id: &str, state, messages, time: &str| Run {
            run_id: RunId::new(id).unwrap(),
            state,
            variations: BTreeMap::from([(VariationId::new("v").unwrap(), Some(state))]),
            messages,
            last_activity: time.parse().ok(),
        };
        let runs = [
            run("demo-with-a-long-name", State::Succeeded, 12345, "2026-01-10T10:28:00Z"),
            run("r", State::Running, 7, ""),
        ];
        let expected = "\
RUN                    STATE      VARIATIONS    MESSAGES  LAST ACTIVITY
demo-with-a-long-name  succeeded           1       12345  2 min ago
r                      running             1           7  -
";
        assert_eq!(table(&runs, now), expected);
    }
}
