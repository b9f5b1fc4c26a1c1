//! The demonstration: three agents, each with a text and a rhythm of its own.

use anyhow::Context;
use runcast_protocol::RunId;

use crate::dev::service::command;
use crate::dev::stack::Stack;

/// Text, tokens a second, seed.
const AGENTS: [(&str, &str, &str); 3] = [("relay", "34", "1"), ("tides", "26", "2"), ("atlas", "42", "3")];

/// A name for a run that was not there before.
///
/// # Errors
/// None; identifiers are checked all the same.
pub(crate) fn new_run() -> anyhow::Result<RunId> {
    const LETTERS: &[u8] = b"abcdefghjkmnpqrstuvwxyz23456789";
    let short: String = (0..4).map(|_| char::from(LETTERS[rand::random_range(0..LETTERS.len())])).collect();
    Ok(RunId::new(format!("demo-{short}"))?)
}

/// Starts the agents, each under a sidecar of its own.
///
/// # Errors
/// If one cannot be started.
pub(crate) fn start(stack: &mut Stack, run: &RunId, redis: &str) -> anyhow::Result<()> {
    let (sidecar, agent) = stack.programs().demo.clone().context("the demo was not asked for")?;
    for (number, (text, rate, seed)) in (1..).zip(AGENTS) {
        let name = format!("var-{number}");
        let mut command = command(&sidecar);
        command.args(["--run", run.as_str(), "--variation", &name, "exec", "--"]).arg(&agent);
        command.args(["--text", text, "--tokens-per-second", rate, "--seed", seed]);
        command.env("RUNCAST__REDIS__URL", redis).env("RUNCAST__RUN__VARIATIONS", AGENTS.len().to_string());
        command.env("RUNCAST__SHUTDOWN__DEADLINE", "3s");
        stack.start_agent(&name, command)?;
    }
    Ok(())
}
