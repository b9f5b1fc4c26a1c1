//! The command line.

use clap::{Args, Parser, Subcommand, ValueEnum};
use runcast_protocol::{Channel, RunId, VariationId};

use crate::fanout::Fanout;

/// Tries out, watches and examines Runcast, which carries what agents say while they run.
#[derive(Debug, Parser)]
#[command(name = "runcast", version, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Redis that the services use.
    #[arg(long, global = true, value_name = "URL", env = "RUNCAST__REDIS__URL", hide_env_values = true)]
    #[arg(help_heading = "Where", default_value = "redis://127.0.0.1:6379")]
    pub(crate) redis: String,
    /// Fan-out that viewers connect to.
    #[arg(long, global = true, value_name = "URL", env = "RUNCAST_FANOUT", hide_env_values = true)]
    #[arg(help_heading = "Where", default_value = "http://127.0.0.1:8080")]
    pub(crate) fanout: Fanout,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "Examples:
  runcast dev --demo            three sample agents, live in the browser
  runcast tail my-run           follow a run in this terminal
  runcast runs                  which runs there are
  runcast doctor                what is wrong, and how to mend it";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Dev(DevOptions),
    Tail(TailOptions),
    Runs(RunsOptions),
    Doctor(DoctorOptions),
}

/// Start everything on this machine, with --demo also agents to watch.
///
/// Ctrl-C stops it all and leaves nothing behind. No Redis that is running already is touched: this
/// starts one of its own, on a free port and with a temporary folder, and the fan-out.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  runcast dev
  runcast dev --demo
  runcast dev --run my-run --port 9000 -v

redis-server is taken from RUNCAST_REDIS_SERVER, the PATH, or what `make tools` put beside the build.")]
pub(crate) struct DevOptions {
    /// Also start three sample agents that write side by side.
    #[arg(long)]
    pub(crate) demo: bool,
    /// Port of the fan-out; a free one if it is taken.
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    pub(crate) port: u16,
    /// The run: that of the demo, or the one to attach your agent to.
    #[arg(long, value_name = "ID")]
    pub(crate) run: Option<RunId>,
    /// Show the services' logs here; they are in files in any case.
    #[arg(short, long)]
    pub(crate) verbose: bool,
}

/// Follow a run: what its agents say to standard output, all else to standard error.
///
/// One variation is written byte for byte as its agent wrote it, so it can be piped on. Several are told
/// apart by name and colour. Reconnects by itself without losing or repeating anything, and ends when the
/// run does. A run that does not exist yet is waited for.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  runcast tail my-run
  runcast tail my-run --variations var-1 --channels output > var-1.md
  runcast tail my-run --from now

Exit status: 0 if the run succeeded, 1 if it did not or cannot be followed.")]
pub(crate) struct TailOptions {
    /// The run.
    #[arg(value_name = "RUN")]
    pub(crate) run: RunId,
    /// Which channels: output, logs, status, metrics, control, acks.
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "output,logs,status")]
    pub(crate) channels: Vec<Channel>,
    /// Only these variations.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub(crate) variations: Vec<VariationId>,
    /// Where to begin: start is all that is kept, now skips it, snapshot gets the text so far at once.
    #[arg(long, value_enum, default_value_t = From::Start)]
    pub(crate) from: From,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum From {
    Start,
    Now,
    Snapshot,
}

/// List the runs that Redis knows, the latest first.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  runcast runs
  runcast runs -o json | jq -r '.[] | select(.state == \"running\") | .run_id'

Walks Redis's whole keyspace: for people, not for loops.")]
pub(crate) struct RunsOptions {
    /// How to print them.
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Table,
    Json,
}

/// Check Redis, the fan-out and the programs, and say what is wrong and how to mend it.
///
/// Sends one message the whole way, in a run of its own that expires within seconds.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  runcast doctor
  runcast doctor --redis rediss://user:password@redis:6379 --fanout http://fanout:8080

Exit status: 0 if all is well, 1 if something is wrong.")]
pub(crate) struct DoctorOptions {
    /// The fan-out's admin port (/livez, /readyz). Default: port 9090 on the fan-out's host.
    #[arg(long, value_name = "URL", env = "RUNCAST_ADMIN")]
    pub(crate) admin: Option<Fanout>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_holds_together() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn lists_are_split_and_checked() {
        let parse = |line: &str| Arguments::try_parse_from(line.split(' '));
        let Command::Tail(tail) =
            parse("runcast tail r --channels output,status --variations a,b").unwrap().command
        else {
            panic!("tail")
        };
        assert_eq!(tail.channels, [Channel::Output, Channel::Status]);
        assert_eq!(tail.variations.len(), 2);
        let error = parse("runcast tail r --channels sound").unwrap_err().to_string();
        assert!(error.contains("use one of output, logs"), "{error}");
        assert!(parse("runcast tail a:b").is_err());
        assert!(parse("runcast runs --fanout https://host").is_err());
    }
}
