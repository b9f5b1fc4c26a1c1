//! `runcast send`: tells agents what to do, and shows what becomes of it.

use std::collections::HashSet;
use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use jiff::SignedDuration;
use runcast_protocol::grpc::control as proto;
use runcast_protocol::grpc::control::command::Action;
use runcast_protocol::grpc::control::send_command_request::Expiration;
use runcast_protocol::grpc::control::{Command, CommandState};
use runcast_protocol::{RunId, VariationId};
use serde_json::json;

use crate::arguments::Format;
use crate::control::{self, ControlPlane, command_state, signed};
use crate::terminal::one_line;

/// Tell a run's agents what to do, and show each step of what becomes of it.
///
/// Waits until it is done, refused or expired with every variation it is for.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  runcast send my-run pause
  runcast send my-run/var-1,var-2 stop --grace 30s
  runcast send my-run config '{\"temperature\": 0.2, \"seed\": null}'
  runcast send my-run/var-1 input 'yes, go on'
  runcast send my-run custom checkpoint '{\"name\": \"before\"}'

Exit status: 0 if all did it, 1 if one did not.")]
pub(crate) struct SendOptions {
    /// The run, and after a slash some of its variations, separated by commas; else all.
    #[arg(value_name = "RUN[/VARIATION,…]")]
    target: Target,
    #[command(subcommand)]
    order: Order,
    /// How long it may take.
    #[arg(long, global = true, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    ttl: Duration,
    /// Do not wait: print the command's name as soon as it was issued.
    #[arg(long, global = true)]
    no_wait: bool,
    /// Idempotency key: the same key again is the same command.
    #[arg(long, global = true, value_name = "KEY", default_value = "", hide_default_value = true)]
    request_id: String,
    /// How to print it: json is one object a step.
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table)]
    output: Format,
}

/// Follow how a run and its variations stand, until it is over.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  runcast watch my-run
  runcast watch my-run -o json | jq -r .state

Exit status: 0 if the run succeeded, 1 if it did not.")]
pub(crate) struct WatchOptions {
    /// The run; one that does not exist yet is waited for.
    #[arg(value_name = "RUN")]
    pub(crate) run: RunId,
    /// How to print it: json is one object a change.
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
}

/// What is to be done.
#[derive(Debug, Subcommand)]
enum Order {
    /// Stand still.
    Pause,
    /// Go on.
    Resume,
    /// End: SIGTERM, and SIGKILL for what is left after the grace period.
    Stop {
        /// How long the agent may take by itself.
        #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
        grace: Duration,
    },
    /// Change the configuration by a JSON merge patch (RFC 7396).
    Config {
        /// The patch: JSON, or - to read it from standard input.
        #[arg(value_name = "JSON")]
        patch: String,
    },
    /// Give the agent text, as a line.
    Input {
        /// The text, or - to take standard input as it is.
        #[arg(value_name = "TEXT")]
        text: String,
    },
    /// Whatever the agent understands.
    Custom {
        /// What the agent calls it.
        #[arg(value_name = "NAME")]
        name: String,
        /// Its argument: JSON, or - to read it from standard input.
        #[arg(value_name = "JSON", default_value = "null", hide_default_value = true)]
        payload: String,
    },
}

/// A run, and those of its variations that are meant; all if none is named.
#[derive(Debug, Clone)]
struct Target {
    run: RunId,
    variations: Vec<VariationId>,
}

impl std::str::FromStr for Target {
    type Err = anyhow::Error;
    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (run, variations) = text.split_once('/').map_or((text, None), |(run, rest)| (run, Some(rest)));
        let variations =
            variations.map(|list| list.split(',').map(VariationId::new).collect::<Result<_, _>>());
        Ok(Self { run: RunId::new(run)?, variations: variations.transpose()?.unwrap_or_default() })
    }
}

/// Runs the command.
///
/// # Errors
/// If the control plane cannot be reached, or refuses.
pub(crate) async fn run(options: SendOptions, url: &str) -> anyhow::Result<ExitCode> {
    let action = action(options.order)?;
    let plane = ControlPlane::connect(url).await?;
    let mut commands = plane.commands();
    let request = proto::SendCommandRequest {
        parent: format!("runs/{}", options.target.run),
        variation_ids: options.target.variations.iter().map(ToString::to_string).collect(),
        command: Some(Command { action: Some(action), ..Command::default() }),
        expiration: Some(Expiration::Ttl(proto_duration(options.ttl))),
        request_id: options.request_id,
    };
    let sent = commands.send_command(signed(request)).await.map_err(|status| plane.refused(&status))?;
    let command = sent.into_inner().command.context("the control plane answers without a command")?;
    let mut printer = Printer { format: options.output, shown: HashSet::new(), out: io::stdout() };
    if options.no_wait {
        match options.output {
            Format::Table => writeln!(printer.out, "{}", command.name)?,
            Format::Json => printer.print(&command)?,
        }
        return Ok(ExitCode::SUCCESS);
    }
    printer.print(&command)?;
    let request = signed(proto::WatchCommandRequest { name: command.name.clone() });
    let watched = commands.watch_command(request).await.map_err(|status| plane.refused(&status))?;
    let (mut watched, mut last) = (watched.into_inner(), command);
    while let Some(step) = watched.message().await.map_err(|status| plane.refused(&status))? {
        if let Some(command) = step.command {
            printer.print(&command)?;
            last = command;
        }
    }
    match last.state() {
        CommandState::Applied => Ok(ExitCode::SUCCESS),
        _ => Ok(ExitCode::FAILURE),
    }
}

/// Prints each step once.
struct Printer {
    format: Format,
    shown: HashSet<(String, usize)>,
    out: io::Stdout,
}

impl Printer {
    fn print(&mut self, command: &Command) -> io::Result<()> {
        let issued = control::time(command.create_time.as_ref());
        for outcome in &command.outcomes {
            for (index, step) in outcome.steps.iter().enumerate() {
                if !self.shown.insert((outcome.variation_id.clone(), index)) {
                    continue;
                }
                let (state, time) = (command_state(step.state()), control::time(step.time.as_ref()));
                let result = step.result.as_ref().map(control::json);
                match self.format {
                    Format::Json => writeln!(
                        self.out,
                        "{}",
                        json!({
                            "command": command.name, "variation_id": outcome.variation_id, "state": state,
                            "time": time.map(|time| time.to_string()), "reason": step.reason, "result": result,
                        })
                    )?,
                    Format::Table => {
                        let after = time.zip(issued).map(|(time, issued)| time.duration_since(issued));
                        let after = after
                            .map(|after| format!("+{} ms", after.as_millis().max(0)))
                            .unwrap_or_default();
                        let result =
                            result.filter(|result| !result.is_null()).map(|result| result.to_string());
                        let said = [Some(one_line(&step.reason)), result].into_iter().flatten();
                        let said: Vec<_> = said.filter(|text| !text.is_empty()).collect();
                        let line = format!(
                            "{:<16} {state:<10} {after:>9}  {}",
                            outcome.variation_id,
                            said.join("  ")
                        );
                        writeln!(self.out, "{}", line.trim_end())?;
                    }
                }
            }
        }
        self.out.flush()
    }
}

fn action(order: Order) -> anyhow::Result<Action> {
    Ok(match order {
        Order::Pause => Action::Pause(proto::PauseAction {}),
        Order::Resume => Action::Resume(proto::ResumeAction {}),
        Order::Stop { grace } => {
            Action::Stop(proto::StopAction { grace_period: Some(proto_duration(grace)) })
        }
        Order::Config { patch } => {
            let patch = read_json("the patch", &patch)?;
            let Some(fields) = patch.as_object() else { bail!("a patch is a JSON object") };
            Action::UpdateConfig(proto::UpdateConfigAction { patch: Some(control::object(fields)) })
        }
        Order::Input { text } => {
            let text = if text == "-" { standard_input()? } else { text + "\n" };
            Action::Input(proto::InputAction { text })
        }
        Order::Custom { name, payload } => {
            let payload = Some(control::value(&read_json("the payload", &payload)?));
            Action::Custom(proto::CustomAction { action_id: name, payload })
        }
    })
}

fn read_json(what: &str, text: &str) -> anyhow::Result<serde_json::Value> {
    let text = if text == "-" { standard_input()? } else { text.to_owned() };
    serde_json::from_str(&text).with_context(|| format!("{what} is not JSON"))
}

fn standard_input() -> anyhow::Result<String> {
    let mut text = String::new();
    io::stdin().read_to_string(&mut text).context("standard input cannot be read as text")?;
    Ok(text)
}

pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let parsed: Option<SignedDuration> = text.parse().ok();
    let duration = parsed.and_then(|duration| Duration::try_from(duration).ok());
    duration.ok_or_else(|| "expected a duration such as 10s or 5m".to_owned())
}

pub(crate) fn proto_duration(duration: Duration) -> prost_types::Duration {
    let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    prost_types::Duration { seconds, nanos: i32::try_from(duration.subsec_nanos()).unwrap_or_default() }
}
