//! Real Redis servers, real service processes and viewers, for tests.
//!
//! Everything listens on free loopback ports and ends with the value that holds it, also when the
//! test is killed.

#![allow(clippy::print_stderr, clippy::unwrap_used, reason = "this is test code")]

mod chart;
mod cluster;
mod collector;
mod history;
mod http;
mod issuer;
mod pen;
mod process;
mod proxy;
mod redis;
mod resp;
mod sentinel;
mod services;
mod tls;
mod viewer;
mod wait;

pub use chart::Chart;
pub use cluster::{Cluster, ClusterNode};
pub use collector::{Collector, ExportedSpan};
pub use history::History;
pub use http::{http_get, http_post, http_post_text, unix_get, unix_post};
pub use issuer::Issuer;
pub use pen::{Pen, message};
pub use process::{Process, binary, free_port};
pub use proxy::{Cut, Proxy};
pub use redis::{Redis, RedisBuilder};
pub use resp::{Reply, command};
pub use sentinel::Sentinel;
pub use services::{Control, Fanout, Replay, Sidecar};
pub use tls::Authority;
pub use viewer::{SeenEvent, Viewer};
pub use wait::eventually;
