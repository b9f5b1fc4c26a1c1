//! Checks of the programs on this machine.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use crate::doctor::report::Report;
use crate::programs;

/// Checks the services' programs and redis-server. Who only watches runs elsewhere needs none of them.
///
/// # Errors
/// If the report cannot be written.
pub(crate) async fn check(report: &mut Report) -> anyhow::Result<()> {
    for name in ["runcast-sidecar", "runcast-fanout", "runcast-control", "runcast-replay"] {
        check_own(report, name).await?;
    }
    let path = match programs::redis_server() {
        Ok(path) => path,
        Err(error) => return Ok(report.hint(&error.to_string(), "needed for `runcast dev`")?),
    };
    match version(&path).await {
        // `Redis server v=7.0.15 sha=… malloc=…`
        Some(text) => {
            let version = text.split(" sha=").next().unwrap_or_default();
            report.good(&format!("{version}, {}", path.display()))?;
        }
        None => {
            report.bad(&format!("{} does not run", path.display()), "`make tools` fetches one that does")?;
        }
    }
    Ok(())
}

async fn check_own(report: &mut Report, name: &str) -> anyhow::Result<()> {
    let path = match programs::own(name) {
        Ok(path) => path,
        Err(error) => {
            return Ok(report.hint(&error.to_string(), "needed where it runs, and for `runcast dev`")?);
        }
    };
    let expected = format!("{name} {}", env!("CARGO_PKG_VERSION"));
    match version(&path).await {
        Some(version) if version == expected => report.good(&format!("{version}, {}", path.display()))?,
        Some(version) => report.hint(
            &format!("{version}, {}, but this is {}", path.display(), env!("CARGO_PKG_VERSION")),
            "build or install all from one version",
        )?,
        None => report
            .bad(&format!("{} does not run", path.display()), "build it with `cargo build --workspace`")?,
    }
    Ok(())
}

async fn version(path: &Path) -> Option<String> {
    let mut command = tokio::process::Command::new(path);
    command.arg("--version").stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(5), command.output()).await.ok()?.ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
