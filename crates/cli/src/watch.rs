//! `runcast watch`: how a run and its variations stand, as it changes.

use std::collections::HashMap;
use std::io::{self, Write};
use std::process::ExitCode;

use runcast_protocol::grpc::control as proto;
use runcast_protocol::grpc::control::RunState;
use serde_json::json;

use crate::arguments::Format;
use crate::control::{self, ControlPlane, run_state, signed};
use crate::send::WatchOptions;
use crate::terminal::one_line;

/// Runs the command.
///
/// # Errors
/// If the control plane cannot be reached, or refuses.
pub(crate) async fn run(options: WatchOptions, url: &str) -> anyhow::Result<ExitCode> {
    let plane = ControlPlane::connect(url).await?;
    let request = signed(proto::WatchRunRequest { name: format!("runs/{}", options.run) });
    let watched = plane.runs().watch_run(request).await.map_err(|status| plane.refused(&status))?;
    let (mut watched, mut out) = (watched.into_inner(), io::stdout());
    let (mut seen, mut last) = (HashMap::new(), RunState::Unspecified);
    while let Some(change) = watched.message().await.map_err(|status| plane.refused(&status))? {
        let Some(run) = change.run else { continue };
        last = run.state();
        match options.output {
            Format::Json => writeln!(out, "{}", as_json(&run))?,
            Format::Table => print(&mut out, &run, &mut seen)?,
        }
        out.flush()?;
    }
    if options.output == Format::Table {
        writeln!(out, "{} {}", options.run, run_state(last))?;
    }
    Ok(if last == RunState::Succeeded { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A line for each variation that changed.
fn print(out: &mut impl Write, run: &proto::Run, seen: &mut HashMap<String, RunState>) -> io::Result<()> {
    for variation in &run.variations {
        if seen.insert(variation.variation_id.clone(), variation.state()) == Some(variation.state()) {
            continue;
        }
        let time = control::time(variation.update_time.as_ref());
        let time = time.map(|time| format!("{time:.0}")).unwrap_or_default();
        let state = run_state(variation.state());
        let line =
            format!("{time:<20} {:<16} {state:<10} {}", variation.variation_id, one_line(&variation.reason));
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

fn as_json(run: &proto::Run) -> serde_json::Value {
    let variations = run.variations.iter().map(|variation| {
        let state = json!({"state": run_state(variation.state()), "reason": variation.reason, "exit_code": variation.exit_code});
        (variation.variation_id.clone(), state)
    });
    json!({
        "run_id": run.name.trim_start_matches("runs/"),
        "state": run_state(run.state()),
        "variations": variations.collect::<serde_json::Map<_, _>>(),
        "labels": run.labels,
    })
}
