//! Checks of the replay service. A system without one works: it forgets what Redis forgets.

use crate::doctor::report::Report;
use crate::server::Server;

/// The service's admin port unless it is configured otherwise.
const ADMIN_PORT: u16 = 9093;

/// Checks whether the service is ready, if it is there.
///
/// # Errors
/// If the report cannot be written.
pub(crate) async fn check(report: &mut Report, replay: &Server, named: Option<Server>) -> anyhow::Result<()> {
    const WHERE: &str = "say where it is with --replay-admin (RUNCAST__ADMIN__LISTEN of the replay service)";
    match replay.get("/v1/runs?limit=1", &[]).await {
        Ok(answer) if answer.status == 200 => report.good("answers; lists runs")?,
        Ok(answer) => {
            let what = format!("runs: {}", answer.problem().await);
            report.bad(&what, "see that --replay is a Runcast replay service; its log says more")?;
        }
        Err(error) => {
            let mend = "without it nothing is archived; say where it is with --replay or RUNCAST_REPLAY";
            return Ok(report.hint(&format!("{error:#}"), mend)?);
        }
    }
    let is_named = named.is_some();
    let admin = named.unwrap_or_else(|| replay.with_port(ADMIN_PORT));
    match admin.get("/readyz", &[]).await {
        Ok(answer) if answer.status == 200 => report.good(&format!("{admin}/readyz"))?,
        Ok(answer) if answer.status == 503 => {
            let why = answer.text().await.unwrap_or_default();
            report.bad(&format!("{admin}/readyz: {why}"), "the replay service's log says more")?;
        }
        outcome => {
            let what = match outcome {
                Ok(answer) => format!("{admin}/readyz: {}, so this is no admin port", answer.status),
                Err(error) => format!("admin port: {error:#}"),
            };
            if is_named { report.bad(&what, WHERE) } else { report.hint(&what, WHERE) }?;
        }
    }
    Ok(())
}
