//! What every Runcast service starts with.
//!
//! A service's `main` loads its configuration ([`config`]), starts its [`telemetry`], says on the
//! [`admin`] port how it is ([`health`]), serves ([`http`]) until a [`shutdown`] is asked for, and drains.

pub mod admin;
pub mod child;
pub mod config;
pub mod cors;
pub mod duration;
pub mod health;
pub mod http;
pub mod logs;
pub mod message_traces;
mod metrics;
mod panics;
pub mod rates;
pub mod shutdown;
pub mod telemetry;
pub mod traceparent;
mod traces;

pub use self::{
    admin::{Admin, AdminConfig},
    health::Health,
    message_traces::MessageTraces,
    shutdown::{Shutdown, within},
    telemetry::{Telemetry, TelemetryConfig},
};
