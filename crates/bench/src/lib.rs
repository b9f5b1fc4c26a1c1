//! `make bench`: the fan-out and other servers under the same load, in turns, on the same machine.

#![allow(clippy::print_stderr, clippy::print_stdout, reason = "a program that reports to whoever runs it")]

pub mod floor;
pub mod publish;
