//! `redis-benchmark`: the fastest that Redis takes single entries.

use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

use super::server::Server;
use super::{MAX_ENTRIES, PAYLOAD, Row};

const PROGRAM: &str = "redis-benchmark";

pub(super) fn is_here() -> bool {
    Command::new(PROGRAM).arg("--version").stdout(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// XADD over its usual 50 connections, `pipeline` of them at a time on each; nothing is published, numbered
/// or fenced.
pub(super) fn measure(server: &Server<'_>, messages: u64, pipeline: u64) -> anyhow::Result<Row> {
    let mut command = Command::new(PROGRAM);
    command.args(["-p", &server.redis.port().to_string(), "-n", &messages.to_string()]);
    command.args(["-P", &pipeline.to_string(), "--csv", "XADD", "bench", "MAXLEN", "~"]);
    command.args([&MAX_ENTRIES.to_string(), "*", "m", &"x".repeat(PAYLOAD)]);
    let before = server.cpu()?;
    let output = command.output().context(PROGRAM)?;
    let used = server.cpu()?.saturating_sub(before);
    ensure!(output.status.success(), "{PROGRAM}: {}", String::from_utf8_lossy(&output.stderr));
    let rate = rate(&String::from_utf8_lossy(&output.stdout)).context("redis-benchmark says no rate")?;
    // It rounds up to whole pipelines.
    let added = server.added("bench")?;
    Ok(Row {
        way: format!("redis-benchmark XADD -P {pipeline}"),
        messages: added,
        seconds: added as f64 / rate,
        redis_us: used.as_secs_f64() * 1e6 / added as f64,
        publisher_us: None,
        entries: added,
        lost: messages.saturating_sub(added),
    })
}

/// The column after the command, in the line after the heads.
fn rate(csv: &str) -> Option<f64> {
    csv.lines().nth(1)?.split("\",\"").nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_the_second_column() {
        let csv = "\"test\",\"rps\",\"avg_latency_ms\"\n\"XADD a, b * m x\",\"25984.15\",\"0.038\"\n";
        assert_eq!(rate(csv), Some(25984.15));
        assert_eq!(rate("\"test\",\"rps\"\n"), None);
    }
}
