//! `runcast archive`: what is kept after Redis has let it go.

mod text;

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::{Args, Subcommand};
use http::{Method, StatusCode};
use runcast_protocol::RunId;
use serde::Deserialize;
use serde_json::Value;

use crate::arguments::Format;
use crate::confirm::confirmed;
use crate::export::to_parquet;
use crate::server::Server;

/// How long reading everything that is archived of a run may take.
const READING: Duration = Duration::from_secs(3600);
/// How long deleting it may take.
const DELETING: Duration = Duration::from_secs(300);
/// Runs asked for at once.
const PAGE: usize = 1000;

/// Look at the archive: runs that are kept in object storage.
///
/// The replay service moves runs there before Redis forgets them, in segments (Parquet, zstd).
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Examples:
  runcast archive ls
  runcast archive get my-run
  runcast archive verify my-run
  runcast archive rm my-run"
)]
pub(crate) struct ArchiveOptions {
    #[command(subcommand)]
    command: ArchiveCommand,
}

#[derive(Debug, Subcommand)]
enum ArchiveCommand {
    Ls(LsOptions),
    Get(GetOptions),
    Verify(VerifyOptions),
    Rm(RmOptions),
}

/// List the runs that are archived.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  runcast archive ls
  runcast archive ls nightly- -o json | jq -r '.[] | select(.complete | not) | .run_id'")]
struct LsOptions {
    /// Only runs whose name begins so.
    #[arg(value_name = "PREFIX", default_value = "", hide_default_value = true, value_parser = prefix)]
    prefix: String,
    /// How to print them.
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

/// Show what is archived of a run, or fetch it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  runcast archive get my-run
  runcast archive get my-run -o json | jq '.segments | length'
  runcast archive get my-run -o backup/     # backup/my-run.parquet and backup/my-run.json")]
struct GetOptions {
    /// The run.
    #[arg(value_name = "RUN")]
    run: RunId,
    /// table, json, or a folder to put the run in; one that is called json is ./json.
    #[arg(short, long, value_name = "FOLDER|json", default_value = "table")]
    output: PathBuf,
}

/// Read all that is archived of runs, and compare it with its checksums.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  runcast archive verify my-run
  runcast archive verify $(runcast archive ls -o json | jq -r '.[].run_id')

Exit status: 0 if all is as it should be, 1 if not.")]
struct VerifyOptions {
    /// The runs.
    #[arg(value_name = "RUN", required = true)]
    runs: Vec<RunId>,
    /// How to print what was found.
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

/// Delete runs from the archive. They cannot be had back. Asks first.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  runcast archive rm my-run
  runcast archive rm old-1 old-2 --yes

Exit status: 0 if all of them were deleted, 1 if not.")]
struct RmOptions {
    /// The runs.
    #[arg(value_name = "RUN", required = true)]
    runs: Vec<RunId>,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
}

#[derive(Debug, Deserialize)]
struct Page {
    runs: Vec<Value>,
    #[serde(default)]
    next_page_token: String,
}

/// Runs the command.
///
/// # Errors
/// If the replay service cannot be asked, or refuses.
pub(crate) async fn run(options: ArchiveOptions, replay: &Server) -> anyhow::Result<ExitCode> {
    match options.command {
        ArchiveCommand::Ls(options) => ls(&options, replay).await,
        ArchiveCommand::Get(options) => get(options, replay).await,
        ArchiveCommand::Verify(options) => verify(options, replay).await,
        ArchiveCommand::Rm(options) => rm(options, replay).await,
    }
}

async fn ls(options: &LsOptions, replay: &Server) -> anyhow::Result<ExitCode> {
    let (mut runs, mut token) = (Vec::new(), String::new());
    loop {
        let mut path = format!("/v1/archive?limit={PAGE}");
        for (name, value) in [("prefix", options.prefix.as_str()), ("page_token", &token)] {
            if !value.is_empty() {
                path += &format!("&{name}={}", escaped(value));
            }
        }
        let page: Page = replay.get(&path, &[]).await?.json().await.with_context(|| replay.to_string())?;
        runs.extend(page.runs);
        if page.next_page_token.is_empty() {
            break;
        }
        ensure!(page.next_page_token != token, "{replay} leads in a circle");
        token = page.next_page_token;
    }
    let text = match options.output {
        Format::Json => serde_json::to_string_pretty(&runs)? + "\n",
        Format::Table => text::runs(&runs)?,
    };
    io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

async fn get(options: GetOptions, replay: &Server) -> anyhow::Result<ExitCode> {
    let run = &options.run;
    let answer = replay.get(&format!("/v1/archive/{run}"), &[]).await?;
    let archived: Value = answer.json().await.with_context(|| replay.to_string())?;
    let json = || Ok::<_, serde_json::Error>(serde_json::to_string_pretty(&archived)? + "\n");
    match options.output.to_str() {
        Some("json") => io::stdout().write_all(json()?.as_bytes())?,
        Some("table") => io::stdout().write_all(text::run(&archived)?.as_bytes())?,
        _ => {
            let folder = options.output;
            fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
            to_parquet(replay, run, &folder.join(format!("{run}.parquet"))).await?;
            let path = folder.join(format!("{run}.json"));
            fs::write(&path, json()?).with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn verify(options: VerifyOptions, replay: &Server) -> anyhow::Result<ExitCode> {
    let (mut found, mut well) = (Vec::new(), true);
    for run in &options.runs {
        let path = format!("/v1/archive/{run}/verify");
        let answer = replay.ask(Method::POST, &path, &[], READING).await?;
        let outcome: anyhow::Result<Value> = answer.json().await;
        match outcome {
            Ok(mut verdict) => {
                well &= verdict["ok"] == true;
                if options.output == Format::Table {
                    io::stdout().write_all(text::verdict(run, &verdict)?.as_bytes())?;
                }
                if let Value::Object(fields) = &mut verdict {
                    fields.insert("run_id".to_owned(), run.as_str().into());
                }
                found.push(verdict);
            }
            Err(error) => {
                well = false;
                eprintln!("runcast: {run}: {error:#}");
            }
        }
    }
    if options.output == Format::Json {
        io::stdout().write_all((serde_json::to_string_pretty(&found)? + "\n").as_bytes())?;
    }
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn rm(options: RmOptions, replay: &Server) -> anyhow::Result<ExitCode> {
    if !options.yes {
        ensure!(io::stdin().is_terminal(), "there is nobody to ask whether to delete them: use --yes");
        let what = match options.runs.as_slice() {
            [run] => format!("run {run}"),
            runs => format!("{} runs", runs.len()),
        };
        if !confirmed(&format!("Delete {what} from the archive? There is no way back."))? {
            println!("Nothing was deleted.");
            return Ok(ExitCode::FAILURE);
        }
    }
    let mut all = true;
    for run in &options.runs {
        let answer = replay.ask(Method::DELETE, &format!("/v1/archive/{run}"), &[], DELETING).await?;
        if answer.status.is_success() {
            println!("{run} is deleted from the archive");
        } else if answer.status == StatusCode::NOT_FOUND {
            all = false;
            eprintln!("runcast: {run} is not archived; `runcast archive ls` lists what is");
        } else {
            bail!("{run}: {}", answer.problem().await);
        }
    }
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The beginning of an identifier, which needs no escapes.
fn prefix(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Ok(String::new());
    }
    RunId::new(text).map(|id| id.to_string()).map_err(|error| error.to_string())
}

/// A value for a query, with everything escaped that could be misunderstood (RFC 3986 §2.1).
pub(crate) fn escaped(text: &str) -> String {
    text.bytes().fold(String::new(), |mut escaped, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped += &format!("%{byte:02X}");
        }
        escaped
    })
}
