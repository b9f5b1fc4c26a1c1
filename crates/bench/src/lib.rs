//! `make bench`: the fan-out and other servers under the same load, in turns, on the same machine.

#![allow(clippy::print_stderr, clippy::print_stdout, reason = "a program that reports to whoever runs it")]

pub mod crowd;
pub mod floor;
pub mod frames;
pub mod line;
pub mod marker;
pub mod outcome;
pub mod publish;
pub mod report;
pub mod run;
pub mod scenarios;
pub mod server;
pub mod stage;
pub mod talker;
pub mod usage;
