//! `runcast-bench`.

use clap::{Parser, Subcommand};
use runcast_bench::{floor, run};

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
    /// Serves as the floor: a ready frame sent to each socket, and nothing else.
    Floor(floor::Options),
}

fn main() -> anyhow::Result<()> {
    match Options::parse().command {
        Command::Run(options) => run::run(&options),
        Command::Floor(options) => floor::run(&options),
    }
}
