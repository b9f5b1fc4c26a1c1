//! `runcast export`: a run as a file.

mod pages;
mod parquet;
mod patience;
mod progress;
mod target;
mod text;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, ensure};
use clap::{Args, ValueEnum};
use runcast_protocol::{Channel, RunId, VariationId};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::export::progress::Progress;
use crate::export::target::Target;
use crate::server::Server;
use crate::table::size;

/// Exit status of what Ctrl-C ended, as shells have it.
const INTERRUPTED: u8 = 130;

/// Write a run to a file, from Redis and the archive alike.
///
/// The file appears under its name only when it is whole: until then it is a temporary one beside it. A
/// connection that is cut is mended, without losing or repeating anything.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  runcast export my-run -o my-run.ndjson
  runcast export my-run -o my-run.parquet
  runcast export my-run -o var-1.txt --variations var-1
  runcast export my-run -o - --format ndjson --channels output | jq -r .content

ndjson has the messages as they were written, one a line; parquet has all of them in the archive's columns,
for DuckDB, pandas and the like; txt is what the agents said, of several one after the other.

Exit status: 0 if all of it was written, 1 if not.")]
pub(crate) struct ExportOptions {
    /// The run.
    #[arg(value_name = "RUN")]
    run: RunId,
    /// The file, or - for standard output.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// What to write; by the file's ending if it is not given.
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Of ndjson, which channels; all if they are not given.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    channels: Vec<Channel>,
    /// Of ndjson and txt, only these variations.
    #[arg(long, visible_alias = "variation", value_name = "LIST", value_delimiter = ',')]
    variations: Vec<VariationId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Ndjson,
    Parquet,
    Txt,
}

/// What was written.
#[derive(Debug, Default, PartialEq, Eq)]
struct Written {
    /// Messages, where they were counted.
    messages: Option<u64>,
    bytes: u64,
    /// Messages that can no longer be had.
    missing: u64,
}

/// What is needed of `GET /v1/runs/{run}`, if it is known: to say how far we are.
#[derive(Debug, Default, Deserialize)]
struct Known {
    #[serde(default)]
    variations: BTreeMap<VariationId, IgnoredAny>,
    #[serde(default)]
    channels: BTreeMap<String, Count>,
}

#[derive(Debug, Default, Deserialize)]
struct Count {
    #[serde(default)]
    messages: u64,
    #[serde(default)]
    bytes: u64,
}

/// Runs the command.
///
/// # Errors
/// If the run is not known, the stream broke for good, or the file cannot be written.
pub(crate) async fn run(options: ExportOptions, replay: &Server) -> anyhow::Result<ExitCode> {
    tokio::select! {
        outcome = export(options, replay) => outcome,
        // What was begun goes with the future that is dropped here.
        _ = tokio::signal::ctrl_c() => {
            eprintln!("runcast: interrupted; nothing was written");
            Ok(ExitCode::from(INTERRUPTED))
        }
    }
}

async fn export(options: ExportOptions, replay: &Server) -> anyhow::Result<ExitCode> {
    let format = options.format.map_or_else(|| by_ending(&options.output), Ok)?;
    let all = options.channels.is_empty() && options.variations.is_empty();
    ensure!(all || format != Format::Parquet, "parquet is the whole run; choose with ndjson or txt instead");
    ensure!(
        options.channels.is_empty() || format == Format::Ndjson,
        "--channels is for ndjson: txt is what the agents said"
    );
    let known: Option<Known> = replay.get(&format!("/v1/runs/{}", options.run), &[]).await?.json().await.ok();
    let mut target = Target::open(&options.output)?;
    let written = match format {
        Format::Ndjson => {
            let progress = Progress::messages(known.as_ref().map(|known| known.messages(&options.channels)));
            pages::export(
                replay,
                &options.run,
                &options.channels,
                &options.variations,
                &mut target,
                &progress,
            )
            .await
        }
        Format::Parquet => parquet::export(replay, &options.run, &mut target, &Progress::bytes(None)).await,
        Format::Txt => {
            let variations = if options.variations.is_empty() {
                let known = known.as_ref().filter(|known| !known.variations.is_empty());
                let known = known.with_context(|| {
                    format!(
                        "{replay} does not know of any variation of run {}; name them with --variations",
                        options.run
                    )
                })?;
                known.variations.keys().cloned().collect()
            } else {
                options.variations
            };
            let progress = Progress::bytes(known.as_ref().map(Known::text_bytes));
            text::export(replay, &options.run, &variations, &mut target, &progress).await
        }
    };
    let written = written.with_context(|| format!("run {} was not exported", options.run))?;
    target.finish()?;
    if written.missing > 0 {
        eprintln!("runcast: {} messages can no longer be had; lines of type gap say which", written.missing);
    }
    eprintln!("{}", summary(&options.output, &written));
    Ok(ExitCode::SUCCESS)
}

/// Writes a run as a Parquet file, and says so.
///
/// # Errors
/// As the command's.
pub(crate) async fn to_parquet(replay: &Server, run: &RunId, path: &Path) -> anyhow::Result<()> {
    let mut target = Target::open(path)?;
    let written = parquet::export(replay, run, &mut target, &Progress::bytes(None)).await;
    let written = written.with_context(|| format!("run {run} was not exported"))?;
    target.finish()?;
    eprintln!("{}", summary(path, &written));
    Ok(())
}

fn by_ending(path: &Path) -> anyhow::Result<Format> {
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_lowercase();
    match ending.as_str() {
        "ndjson" | "jsonl" => Ok(Format::Ndjson),
        "parquet" => Ok(Format::Parquet),
        "txt" | "md" => Ok(Format::Txt),
        _ => anyhow::bail!(
            "{} does not say what to write; end it in .ndjson, .parquet or .txt, or use --format",
            path.display()
        ),
    }
}

fn summary(path: &Path, written: &Written) -> String {
    let bytes = format!("{} ({} bytes)", size(written.bytes), written.bytes);
    let what = match written.messages {
        Some(1) => format!("1 message, {bytes}"),
        Some(messages) => format!("{messages} messages, {bytes}"),
        None => bytes,
    };
    format!(
        "{}: {what}",
        if target::is_stdout(path) { "standard output".into() } else { path.display().to_string() }
    )
}

impl Known {
    fn messages(&self, channels: &[Channel]) -> u64 {
        let wanted =
            |name: &str| channels.is_empty() || channels.iter().any(|channel| channel.as_str() == name);
        self.channels.iter().filter(|(name, _)| wanted(name)).map(|(_, count)| count.messages).sum()
    }

    fn text_bytes(&self) -> u64 {
        self.channels.get(Channel::Output.as_str()).map_or(0, |count| count.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ending_says_what_to_write() {
        for (name, format) in
            [("a.ndjson", Format::Ndjson), ("b/c.PARQUET", Format::Parquet), ("d.x.txt", Format::Txt)]
        {
            assert_eq!(by_ending(Path::new(name)).unwrap(), format);
        }
        let error = by_ending(Path::new("-")).unwrap_err().to_string();
        assert!(error.contains("--format"), "{error}");
    }

    #[test]
    fn what_is_known_of_a_run_is_a_measure_of_progress() {
        let known: Known = serde_json::from_str(
            r#"{"run_id":"r","variations":{"a":{"state":"running"}},"channels":{"output":{"messages":3,"bytes":40},"logs":{"messages":2,"bytes":9}}}"#,
        )
        .unwrap();
        assert_eq!((known.messages(&[]), known.messages(&[Channel::Logs]), known.text_bytes()), (5, 2, 40));
    }
}
