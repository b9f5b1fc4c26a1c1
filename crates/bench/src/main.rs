//! `runcast-bench`.

use clap::{Parser, Subcommand};
use runcast_bench::{floor, publish};

/// Measures the fan-out beside other servers.
#[derive(Debug, Parser)]
#[command(name = "runcast-bench", version)]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves as the floor: a ready frame written to each socket, nothing else.
    Floor(floor::Options),
    /// Measures publishing alone (S7).
    Publish(publish::Options),
}

fn main() -> anyhow::Result<()> {
    match Options::parse().command {
        Command::Floor(options) => floor::run(&options),
        Command::Publish(options) => publish::run(&options),
    }
}
