//! `runcast doctor`: what is wrong, and how to mend it.

mod fanout;
mod programs;
mod redis;
mod replay;
mod report;
mod round_trip;

use std::process::ExitCode;

use crate::arguments::DoctorOptions;
use crate::doctor::report::Report;
use crate::server::Server;

/// Runs the command.
///
/// # Errors
/// If its report cannot be written.
pub(crate) async fn run(
    options: DoctorOptions,
    redis: &str,
    fanout: Server,
    replay: Server,
) -> anyhow::Result<ExitCode> {
    let mut report = Report::default();
    report.section(&format!("Redis, {}", without_password(redis)))?;
    let round_trip = redis::check(&mut report, redis).await?;
    report.section(&format!("Fan-out, {fanout}"))?;
    fanout::check_health(&mut report, &fanout, options.admin).await?;
    fanout::check_stream(&mut report, &fanout, round_trip).await?;
    report.section(&format!("Replay, {replay}"))?;
    replay::check(&mut report, &replay, options.replay_admin).await?;
    report.section("Programs")?;
    programs::check(&mut report).await?;
    Ok(if report.conclude()? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn without_password(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://…@{host}"),
        _ => url.to_owned(),
    }
}
