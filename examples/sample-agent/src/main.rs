//! An agent that writes a Markdown text token by token, in a rhythm of its own, as a language model
//! would: Runcast's demo and its tests have somebody to listen to, without a model.
//!
//! Standard output carries the text, byte for byte, and between its lines JSON log records;
//! standard error carries a few plain lines.

mod log;
mod rhythm;
mod tokens;
mod writing;

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Parser;

use crate::rhythm::Rhythm;

/// The texts that ship with the project, so that the agent runs from anywhere.
const TEXTS: [(&str, &str); 3] = [
    ("relay", include_str!("../../texts/relay.md")),
    ("tides", include_str!("../../texts/tides.md")),
    ("atlas", include_str!("../../texts/atlas.md")),
];

/// Writes a Markdown text token by token, as a language model would.
///
/// Standard output carries the text byte for byte and, on lines of their own, JSON log records with
/// `timestamp` and `level`; standard error a few plain lines.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
struct Args {
    /// What to write: relay, tides or atlas (compiled in), or the path of a UTF-8 text file
    #[arg(long, value_name = "NAME|FILE")]
    text: OsString,

    /// Tokens a second while writing; pauses at sentence ends and headings scale with it
    #[arg(long, value_name = "N", default_value_t = 35.0, value_parser = rate)]
    tokens_per_second: f64,

    /// The same seed gives the same rhythm
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// How long to think before the first token, e.g. 800ms or 2s
    #[arg(long, value_name = "DURATION", default_value = "800ms", value_parser = duration)]
    think: Duration,

    /// Exit code to end with, once the text is written
    #[arg(long, value_name = "CODE", default_value_t = 0)]
    exit_code: u8,

    /// Write the text only: no log records, nothing on standard error
    #[arg(long)]
    quiet: bool,
}

fn main() -> ExitCode {
    run(Args::parse()).unwrap_or_else(|error| {
        let _ = writeln!(io::stderr(), "sample-agent: {error:#}");
        ExitCode::FAILURE
    })
}

fn run(args: Args) -> anyhow::Result<ExitCode> {
    let text = read_text(&args.text)?;
    let rhythm = Rhythm::new(args.tokens_per_second, args.seed);
    let title = args.text.to_string_lossy();
    let agent = writing::Agent {
        out: io::stdout().lock(),
        err: io::stderr(),
        sleep: std::thread::sleep,
        quiet: args.quiet,
    };
    match agent.write(&title, &text, rhythm, args.think, args.exit_code) {
        // Nobody reads any more: there is nothing left to do, and nobody to complain to.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        Err(error) => Err(error).context("cannot write to standard output"),
        Ok(()) => Ok(ExitCode::from(args.exit_code)),
    }
}

fn read_text(name: &OsString) -> anyhow::Result<String> {
    if let Some((_, text)) = TEXTS.iter().find(|(known, _)| name == known) {
        return Ok((*text).to_owned());
    }
    let shown = name.to_string_lossy();
    match std::fs::read(name) {
        Ok(bytes) => String::from_utf8(bytes).with_context(|| format!("{shown} is not UTF-8 text")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            bail!("--text {shown}: no such file, and not one of the texts compiled in: relay, tides, atlas")
        }
        Err(error) => Err(error).with_context(|| format!("cannot read --text {shown}")),
    }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if (0.1..=1_000_000.0).contains(&rate) => Ok(rate),
        _ => Err("expected a number from 0.1 to 1000000".to_owned()),
    }
}

/// Takes `800ms`, `2s` or `1.5s`.
fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = text
        .strip_suffix("ms")
        .map(|number| (number, 0.001))
        .or_else(|| text.strip_suffix('s').map(|number| (number, 1.0)))
        .unwrap_or((text, f64::NAN));
    number
        .parse()
        .ok()
        .and_then(|number: f64| Duration::try_from_secs_f64(number * unit).ok())
        .ok_or_else(|| "expected a duration such as 800ms or 1.5s".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(duration("800ms"), Ok(Duration::from_millis(800)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        for bad in ["", "5", "ms", "-1s", "1m", "NaNs", "infs"] {
            assert!(duration(bad).is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn rates_are_bounded() {
        assert_eq!(rate("35"), Ok(35.0));
        for bad in ["0", "-1", "NaN", "inf", "fast"] {
            assert!(rate(bad).is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn the_texts_hold_what_breaks_pipelines() {
        for (name, text) in TEXTS {
            for needle in ["```", "|--", "  \n", "\n\n", "- ", "é"] {
                let found = text.contains(needle) || (needle == "é" && !text.is_ascii());
                assert!(found, "{name} lacks {needle:?}");
            }
            assert!(text.chars().any(|c| c > '\u{1F000}'), "{name} lacks an emoji");
            assert!(text.chars().any(|c| ('\u{4E00}'..'\u{9FFF}').contains(&c)), "{name} lacks CJK");
            let words = text.split_whitespace().count();
            assert!((400..=700).contains(&words), "{name} has {words} words");
        }
    }
}
