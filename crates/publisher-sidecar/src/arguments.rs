//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// Takes what an agent says and publishes it, as it comes, to everyone who watches its run.
///
/// Every option is in the configuration file and, as RUNCAST__SECTION__OPTION, in the environment;
/// --defaults prints them all with explanations.
#[derive(Debug, Parser)]
#[command(name = "runcast-sidecar", bin_name = "runcast-sidecar", version, after_help = EXAMPLES)]
pub struct Arguments {
    /// Configuration file (TOML); what it leaves out has its default.
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// The run that the agent works for (run.id).
    #[arg(long, value_name = "ID", global = true)]
    pub run: Option<String>,
    /// The variation of the run that the agent is (run.variation).
    #[arg(long, value_name = "ID", global = true)]
    pub variation: Option<String>,
    /// Print the configuration with its defaults and explanations, and exit.
    #[arg(long)]
    pub defaults: bool,
    /// How the agent's words reach the sidecar.
    #[command(subcommand)]
    pub mode: Option<Mode>,
}

const EXAMPLES: &str = "Examples:
  runcast-sidecar --run r1 --variation a exec -- python agent.py
  agent | runcast-sidecar --run r1 --variation a pipe
  runcast-sidecar --run r1 --variation a serve &
  curl -d 'Hello' http://127.0.0.1:7780/v1/output

Exit status:
  exec exits with the agent's own status, 128 + n if signal n ended it, 127 if there is no such
  command, 126 if it cannot be run. 69: another sidecar took over. 78: bad configuration.";

/// How the agent's words reach the sidecar.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Mode {
    /// Start the agent; publish its standard output and error, and pass them on to ours.
    ///
    /// Output is published as it comes, without waiting for line ends. Lines of standard output that
    /// are JSON objects with `timestamp` and `level` go to the logs, and so does standard error. The
    /// status tells how the agent ended. SIGTERM and SIGINT are passed on to it.
    Exec {
        /// Let people's text (the command `input`) come to the agent's standard input, instead of our own
        /// (exec.input).
        #[arg(long)]
        input: bool,
        /// The agent's program and its arguments, after `--`.
        #[arg(last = true, required = true, value_name = "CMD")]
        command: Vec<OsString>,
    },
    /// Publish standard input, and pass it on to standard output.
    Pipe,
    /// Take messages over HTTP from an agent in the same pod (api.listen, api.socket).
    ///
    /// POST /v1/output takes text as it comes, POST /v1/messages whole messages, POST /v1/finish ends
    /// the run's variation, GET /v1/status shows where it stands.
    Serve,
}

impl Arguments {
    /// What the command line sets in the configuration.
    pub fn overrides(&self) -> Vec<(&'static str, String)> {
        let ids = [("run.id", &self.run), ("run.variation", &self.variation)];
        let mut overrides: Vec<_> =
            ids.into_iter().filter_map(|(key, id)| Some((key, id.clone()?))).collect();
        if let Some(Mode::Exec { input: true, .. }) = self.mode {
            overrides.push(("exec.input", "true".to_owned()));
        }
        overrides
    }
}
