//! `runcast replay`: shows a run again in the terminal.

use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use jiff::{SignedDuration, Timestamp};
use runcast_protocol::{Channel, Cursor, RunId, State, VariationId};

use crate::server::Server;
use crate::tail::{Tail, choice};

/// Slowest and fastest replay.
const SPEEDS: std::ops::RangeInclusive<f64> = 0.01..=10_000.0;

/// Show a run again as it happened, in its own rhythm or faster.
///
/// On the screen it looks as with `tail`. It reads Redis and the archive alike, so it works long after the
/// run has ended. It ends where the run did, or with what there is of one that still goes on.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  runcast replay my-run
  runcast replay my-run --speed 4 --max-silence 2s
  runcast replay my-run --speed max --variations var-1 --channels output > var-1.md
  runcast replay my-run --from 2026-01-10T10:30:00Z

Exit status: 0 if the run succeeded or still goes on, 1 if it did not or cannot be replayed.")]
pub(crate) struct ReplayOptions {
    /// The run.
    #[arg(value_name = "RUN")]
    run: RunId,
    /// How many times as fast as it was, or max for as fast as it goes.
    #[arg(long, value_name = "SPEED", default_value = "1")]
    speed: Speed,
    /// Where to begin: start, a cursor (an event's id), or a time.
    #[arg(long, value_name = "PLACE", default_value = "start")]
    from: Place,
    /// Cut longer silences to this.
    #[arg(long, value_name = "TIME", value_parser = silence)]
    max_silence: Option<Duration>,
    /// Which channels: output, logs, status, metrics, control, acks.
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "output,logs,status")]
    channels: Vec<Channel>,
    /// Only these variations.
    #[arg(long, visible_alias = "variation", value_name = "LIST", value_delimiter = ',')]
    variations: Vec<VariationId>,
    /// On a terminal, write what agents wrote as it is, not only its text and colours: it may steer the terminal.
    #[arg(long)]
    raw: bool,
}

/// How fast; none for as fast as it goes.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Speed(Option<f64>);

/// Where to begin.
#[derive(Debug, Clone, PartialEq)]
enum Place {
    Start,
    After(Cursor),
    Time(Timestamp),
}

/// Runs the command.
///
/// # Errors
/// If the replay service refuses, or what it says cannot be understood.
pub(crate) async fn run(options: ReplayOptions, replay: Server) -> anyhow::Result<ExitCode> {
    let mut tail = Tail::new(replay, &options.run, &options.variations, options.raw);
    // A run that is not known is refused by the stream itself.
    tail.learn().await;
    let state = tail.follow(path(&options)).await?;
    Ok(if state == State::Succeeded || !state.is_terminal() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn path(options: &ReplayOptions) -> String {
    let speed = options.speed.0.map_or_else(|| "max".to_owned(), |speed| speed.to_string());
    let chosen = choice(&options.channels, &options.variations);
    let mut path = format!("/v1/runs/{}/replay?speed={speed}&{chosen}", options.run);
    // None of these has characters that must be escaped: a timestamp is written in UTC.
    match &options.from {
        Place::Start => {}
        Place::After(cursor) => path += &format!("&from={cursor}"),
        Place::Time(time) => path += &format!("&from={time}"),
    }
    if let Some(silence) = options.max_silence {
        path += &format!("&max_silence={}ms", silence.as_millis());
    }
    path
}

fn silence(text: &str) -> Result<Duration, &'static str> {
    let silence = text.parse::<SignedDuration>().ok().and_then(|silence| Duration::try_from(silence).ok());
    silence.ok_or("use a duration such as 5s or 500ms")
}

impl FromStr for Speed {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "max" {
            return Ok(Self(None));
        }
        let speed = text.strip_suffix(['x', '×']).unwrap_or(text).parse().ok();
        let speed = speed.filter(|speed| SPEEDS.contains(speed));
        Ok(Self(Some(speed.ok_or("use a number such as 1, 4 or 0.5 (0.01 to 10000), or max")?)))
    }
}

impl FromStr for Place {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let time = || text.parse().ok().map(Self::Time);
        let cursor = || text.parse().ok().map(Self::After);
        match text {
            "start" => Some(Self::Start),
            "" => None,
            _ => time().or_else(cursor),
        }
        .ok_or("use start, a cursor such as var-1:1234, or a time such as 2026-01-10T10:30:00Z")
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::arguments::{Arguments, Command};

    fn asked(line: &str) -> String {
        let parsed = Arguments::try_parse_from(format!("runcast replay {line}").split(' ')).unwrap();
        let Command::Replay(options) = parsed.command else { panic!("replay") };
        path(&options)
    }

    #[test]
    fn what_is_asked_for_needs_no_escapes() {
        for (line, expected) in [
            ("r", "/v1/runs/r/replay?speed=1&channels=output,logs,status"),
            ("r --speed max --channels output", "/v1/runs/r/replay?speed=max&channels=output"),
            (
                "r --speed 4x --from a:1.2,b:3 --variation a --channels output",
                "/v1/runs/r/replay?speed=4&channels=output&variations=a&from=a:1.2,b:3",
            ),
            (
                "r --speed 0.5 --from 2026-01-10T12:30:00+02:00 --max-silence 1m --channels output",
                "/v1/runs/r/replay?speed=0.5&channels=output&from=2026-01-10T10:30:00Z&max_silence=60000ms",
            ),
        ] {
            assert_eq!(asked(line), expected);
        }
        for line in ["r --speed 0", "r --speed fast", "r --from never", "r --max-silence -5s", "a:b"] {
            let line = format!("runcast replay {line}");
            Arguments::try_parse_from(line.split(' ')).unwrap_err();
        }
    }
}
