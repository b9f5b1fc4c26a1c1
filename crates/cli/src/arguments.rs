//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use runcast_protocol::{Channel, RunId, State, VariationId};

use crate::acl::AclOptions;
use crate::archive::ArchiveOptions;
use crate::dead::LetterId;
use crate::export::ExportOptions;
use crate::replay::ReplayOptions;
use crate::send::{SendOptions, WatchOptions};
use crate::server::Server;
use crate::token::TokenOptions;

/// Tries out, watches and examines Runcast, which carries what agents say while they run.
#[derive(Debug, Parser)]
#[command(name = "runcast", bin_name = "runcast", version, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Redis that the services use.
    #[arg(long, global = true, value_name = "URL", env = "RUNCAST__REDIS__URL", hide_env_values = true)]
    #[arg(help_heading = "Where", default_value = "redis://127.0.0.1:6379")]
    pub(crate) redis: String,
    /// Fan-out that viewers connect to.
    #[arg(long, global = true, value_name = "URL", env = "RUNCAST_FANOUT", hide_env_values = true)]
    #[arg(help_heading = "Where", default_value = "http://127.0.0.1:8080")]
    pub(crate) fanout: Server,
    /// Control plane that carries commands, http:// or https://.
    #[arg(long, global = true, value_name = "URL", env = "RUNCAST_CONTROL", hide_env_values = true)]
    #[arg(help_heading = "Where", default_value = "http://127.0.0.1:50051")]
    pub(crate) control: String,
    /// Replay service, which has the history and the archive.
    #[arg(long, global = true, value_name = "URL", env = "RUNCAST_REPLAY", hide_env_values = true)]
    #[arg(help_heading = "Where", default_value = "http://127.0.0.1:8081")]
    pub(crate) replay: Server,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "Examples:
  runcast dev --demo            three sample agents, live in the browser
  runcast tail my-run           follow a run in this terminal
  runcast send my-run pause     have its agents stand still
  runcast runs                  which runs there are
  runcast replay my-run         show it again, in its own rhythm
  runcast export my-run -o my-run.ndjson
  runcast archive ls            what is kept after Redis has let it go
  runcast dead list my-run      which of its messages could not be stored
  runcast token revoke t-17     let nobody in with that token any more
  runcast doctor                what is wrong, and how to mend it";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Dev(DevOptions),
    Tail(TailOptions),
    Replay(ReplayOptions),
    Export(ExportOptions),
    Archive(ArchiveOptions),
    Send(SendOptions),
    Watch(WatchOptions),
    Runs(RunsOptions),
    Acl(AclOptions),
    Dead(DeadOptions),
    Token(TokenOptions),
    Doctor(DoctorOptions),
    Completions(CompletionsOptions),
}

/// Start everything on this machine, with --demo also agents to watch.
///
/// Ctrl-C stops it all and leaves nothing behind. No Redis that is running already is touched: this
/// starts one of its own, on a free port and with a temporary folder, the fan-out, the control plane and the
/// replay service, whose archive is in that folder too.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  runcast dev
  runcast dev --demo
  runcast dev --run my-run --port 9000 -v
  runcast dev --demo --archive ~/runcast-archive

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
    /// Keep the archive in this folder instead: finished runs are there the next time.
    #[arg(long, value_name = "DIR")]
    pub(crate) archive: Option<PathBuf>,
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
    /// On a terminal, write what agents wrote as it is, not only its text and colours: it may steer the terminal.
    #[arg(long)]
    pub(crate) raw: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum From {
    Start,
    Now,
    Snapshot,
}

/// List the runs there are, the latest first.
///
/// Asks the replay service, which also knows the runs that only the archive has. Where there is none, walks
/// Redis's whole keyspace instead: for people, not for loops.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  runcast runs
  runcast runs --state running,failed --limit 20
  runcast runs -o json | jq -r '.[] | select(.state == \"running\") | .run_id'")]
pub(crate) struct RunsOptions {
    /// Only runs in these states: pending, running, succeeded, failed, cancelled, lost.
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = state)]
    pub(crate) state: Vec<State>,
    /// So many at the most.
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: u32,
    /// How to print them.
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
}

fn state(text: &str) -> Result<State, &'static str> {
    let quoted = serde_json::Value::from(text);
    serde_json::from_value(quoted).map_err(|_| "use pending, running, succeeded, failed, cancelled or lost")
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Table,
    Json,
}

/// Look at messages that could never be stored (dead letters), and decide what becomes of them.
///
/// A message that is too large, or that Redis refuses for good, does not stand in the way of others: it is
/// put aside with the reason, for the run's time to live. What Redis will not have even there is in the
/// file dead-letters.ndjson in the folder of the sidecar's journal: see --file.
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Examples:
  runcast dead list my-run
  runcast dead show my-run 1768040000000-0
  runcast dead requeue my-run --all
  runcast dead list --file /var/run/runcast/journal/dead-letters.ndjson"
)]
pub(crate) struct DeadOptions {
    #[command(subcommand)]
    pub(crate) command: DeadCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DeadCommand {
    List(DeadListOptions),
    Show(DeadShowOptions),
    Requeue(DeadRequeueOptions),
    Drop(DeadDropOptions),
}

/// List a run's dead letters, the oldest first.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  runcast dead list my-run
  runcast dead list my-run -o json | jq -r '.[] | select(.lane == \"logs/var-1\") | .id'
  runcast dead list --file journal/dead-letters.ndjson")]
pub(crate) struct DeadListOptions {
    /// The run.
    #[arg(value_name = "RUN", required_unless_present = "file")]
    pub(crate) run: Option<RunId>,
    /// The file beside a sidecar's journal instead of Redis; its lines are numbered.
    #[arg(long, value_name = "PATH", conflicts_with = "run")]
    pub(crate) file: Option<PathBuf>,
    /// How to print them. JSON leaves out the original messages: `show` has them.
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
}

/// Show one dead letter whole, with the message that could not be stored.
#[derive(Debug, Args)]
#[command(
    allow_missing_positional = true,
    after_help = "Examples:
  runcast dead show my-run 1768040000000-0
  runcast dead show my-run 1768040000000-0 -o json | jq .original
  runcast dead show --file journal/dead-letters.ndjson 1"
)]
pub(crate) struct DeadShowOptions {
    /// The run.
    #[arg(value_name = "RUN", required_unless_present = "file")]
    pub(crate) run: Option<RunId>,
    /// Which one, as `list` calls it.
    #[arg(value_name = "ID")]
    pub(crate) id: LetterId,
    /// The file beside a sidecar's journal instead of Redis; ID is a line's number.
    #[arg(long, value_name = "PATH", conflicts_with = "run")]
    pub(crate) file: Option<PathBuf>,
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
}

/// Append dead letters to their lanes after all, each with a new number at the end.
///
/// For when what stood in the way was mended: a limit was raised, a server replaced. It claims the lane, as a
/// new sidecar does: a sidecar that still writes it is fenced, and stops. So it is meant for runs whose agents
/// have ended, and refused for others. Each letter is appended and deleted in one step, never twice.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  runcast dead requeue my-run 1768040000000-0
  runcast dead requeue my-run --all

Exit status: 0 if all of them were appended, 1 if not.")]
pub(crate) struct DeadRequeueOptions {
    /// The run.
    #[arg(value_name = "RUN")]
    pub(crate) run: RunId,
    /// Which ones, as `list` calls them.
    #[arg(value_name = "ID", required_unless_present = "all")]
    pub(crate) ids: Vec<LetterId>,
    /// All of the run's.
    #[arg(long, conflicts_with = "ids")]
    pub(crate) all: bool,
    /// Also where a variation has not said that it ended; a sidecar that still writes the lane stops.
    #[arg(long)]
    pub(crate) force: bool,
}

/// Delete dead letters. They cannot be had back.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  runcast dead drop my-run 1768040000000-0
  runcast dead drop my-run --all --yes

Exit status: 0 if all of them were deleted, 1 if not.")]
pub(crate) struct DeadDropOptions {
    /// The run.
    #[arg(value_name = "RUN")]
    pub(crate) run: RunId,
    /// Which ones, as `list` calls them.
    #[arg(value_name = "ID", required_unless_present = "all")]
    pub(crate) ids: Vec<LetterId>,
    /// All of the run's. Asks first.
    #[arg(long, conflicts_with = "ids")]
    pub(crate) all: bool,
    /// Do not ask.
    #[arg(short, long)]
    pub(crate) yes: bool,
}

/// Check Redis, the fan-out, the replay service and the programs, and say what is wrong and how to mend it.
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
    pub(crate) admin: Option<Server>,
    /// The replay service's admin port. Default: port 9093 on its host.
    #[arg(long, value_name = "URL", env = "RUNCAST_REPLAY_ADMIN")]
    pub(crate) replay_admin: Option<Server>,
}

/// Print completions for a shell.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  source <(runcast completions bash)
  runcast completions zsh > ~/.zfunc/_runcast
  runcast completions fish > ~/.config/fish/completions/runcast.fish")]
pub(crate) struct CompletionsOptions {
    /// The shell.
    pub(crate) shell: clap_complete::Shell,
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

    #[test]
    fn dead_letters_are_a_runs_or_a_files() {
        let parse =
            |line: &str| Arguments::try_parse_from(line.split(' ')).map(|arguments| arguments.command);
        let Command::Dead(DeadOptions { command: DeadCommand::Show(show) }) =
            parse("runcast dead show r 5-0").unwrap()
        else {
            panic!("show")
        };
        assert_eq!((show.run, show.id.to_string()), (RunId::new("r").ok(), "5-0".to_owned()));
        for line in
            ["list --file f", "show --file f 3", "requeue r --all", "drop r 1-0 2-0", "drop r --all -y"]
        {
            parse(&format!("runcast dead {line}")).unwrap();
        }
        for line in
            ["list", "list r --file f", "show r", "show 5-0", "requeue r", "drop r --all 5-0", "drop r x"]
        {
            parse(&format!("runcast dead {line}")).unwrap_err();
        }
        let error = parse("runcast dead show r five").unwrap_err().to_string();
        assert!(error.contains("runcast dead list"), "{error}");
    }
}
