//! `runcast-bench`.

use clap::{Parser, Subcommand};
use runcast_bench::{floor, publish, run};

/// Measures the fan-out beside other servers, under the same load, on this machine.
#[derive(Debug, Parser)]
#[command(name = "runcast-bench", version)]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Plays the scenarios, prints a table, and writes all that was measured as JSON.
    Run(run::Options),
    /// Measures publishing alone (S7): what it costs Redis and the sidecar, beside redis-benchmark.
    Publish(publish::PublishOptions),
    /// Serves as the floor: a ready frame sent to each socket, and nothing else.
    Floor(floor::Options),
}

#[allow(clippy::print_stdout, reason = "a program that reports to whoever runs it")]
fn main() -> anyhow::Result<()> {
    match Options::parse().command {
        Command::Run(options) => run::run(&options),
        Command::Publish(options) => {
            println!("{}", publish::run(&options)?);
            Ok(())
        }
        Command::Floor(options) => floor::run(&options),
    }
}
