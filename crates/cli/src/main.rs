//! `runcast`: tries out, watches and examines Runcast from a terminal.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "printing is what a command-line tool does")]

mod acl;
mod ago;
mod archive;
mod arguments;
mod confirm;
mod control;
mod dead;
mod dev;
mod doctor;
mod export;
mod programs;
mod replay;
mod runs;
mod send;
mod server;
mod table;
mod tail;
mod terminal;
mod token;
mod watch;

use std::io;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use crate::arguments::{Arguments, Command};

/// One thread, the main one: `dev`'s children die with the thread that started them.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let Arguments { redis, fanout, control, replay, command } = Arguments::parse();
    let outcome = match command {
        Command::Dev(options) => Box::pin(dev::run(options)).await,
        Command::Tail(options) => Box::pin(tail::run(options, fanout)).await,
        Command::Replay(options) => Box::pin(replay::run(options, replay)).await,
        Command::Export(options) => Box::pin(export::run(options, &replay)).await,
        Command::Archive(options) => Box::pin(archive::run(options, &replay)).await,
        Command::Send(options) => Box::pin(send::run(options, &control)).await,
        Command::Watch(options) => Box::pin(watch::run(options, &control)).await,
        Command::Acl(options) => Box::pin(acl::run(options, &control)).await,
        Command::Runs(options) => Box::pin(runs::run(options, &redis, &replay)).await,
        Command::Dead(options) => Box::pin(dead::run(options, &redis)).await,
        Command::Token(options) => Box::pin(token::run(options, &control)).await,
        Command::Doctor(options) => Box::pin(doctor::run(options, &redis, fanout, replay)).await,
        Command::Completions(options) => {
            clap_complete::generate(options.shell, &mut Arguments::command(), "runcast", &mut io::stdout());
            Ok(ExitCode::SUCCESS)
        }
    };
    outcome.unwrap_or_else(|error| {
        if is_broken_pipe(&error) {
            // Whoever read our output has had enough.
            return ExitCode::SUCCESS;
        }
        eprintln!("runcast: {error:#}");
        ExitCode::FAILURE
    })
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
