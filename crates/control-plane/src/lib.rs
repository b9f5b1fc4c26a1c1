//! Carries commands to agents over gRPC, and tells when a run is over.
//!
//! A run's control, acks and status lanes are all there is: each replica folds them into a [`run_log`],
//! makes a [`plan`], and writes it only if nothing happened meanwhile ([`run`]). So every replica may
//! answer for, and look after, every run, and nothing is lost with one.

pub mod callers;
mod calls;
pub mod check;
pub mod commands;
pub mod config;
pub mod convert;
pub mod credential;
mod credential_calls;
pub mod error;
mod follower;
mod guard;
pub mod lease_watch;
pub mod life;
pub mod metrics;
mod patience;
pub mod plan;
pub mod quotas;
pub mod reader;
pub mod run;
pub mod run_log;
pub mod run_service;
pub mod runs;
mod serve;
mod servers;
pub mod token_service;
pub mod user_diff;
mod user_keeper;
pub mod users;

use runcast_auth::Gate;
use runcast_bus::{Bus, Part, RedisConfig, Subscriber};
use runcast_runtime::{Health, Shutdown};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::callers::Callers;
use crate::commands::Commands;
use crate::config::Config;
use crate::guard::Guarded;
use crate::metrics::Metrics;
use crate::quotas::Quotas;
use crate::run::RunContext;
use crate::run_service::RunCalls;
use crate::runs::Runs;
use crate::servers::Servers;
use crate::token_service::Tokens;
use crate::users::Users;

/// What has a state of health; the first is the server as a whole.
const SERVICES: [&str; 4] = [
    "",
    "runcast.control.v1.CommandService",
    "runcast.control.v1.RunService",
    "runcast.control.v1.TokenService",
];

/// Serves callers on `listener` until `shutdown`.
///
/// # Errors
/// If the configuration cannot be used.
pub async fn run(
    config: Config,
    listener: TcpListener,
    health: Health,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    let metrics = Metrics::new();
    let bus = Bus::connect(&config.redis)?;
    let users = config.acl.manage.then(|| Users::connect(&bus, config.acl, metrics.clone())).transpose()?;
    let _users = users.clone().map(|users| AbortOnDropHandle::new(tokio::spawn(users.keep())));
    let context = RunContext {
        bus,
        fence: Bus::connect(&RedisConfig { connections: 1, ..config.redis.clone() })?,
        limits: config.stream.limits(),
        metrics: metrics.clone(),
        users,
    };
    let subscriber = Subscriber::connect(&context.bus)?;
    let gate = Gate::open(&config.auth, listener.local_addr()?, context.bus.clone(), subscriber.clone())?;
    let runs = Runs::new(context.clone(), subscriber, config.lease, config.retention);
    let callers = Callers::new(config.limits, metrics.clone());
    let quotas = Quotas::new(config.quotas.clone());
    let _quotas = AbortOnDropHandle::new(tokio::spawn(quotas.clone().watch(runs.clone())));
    let _servers =
        AbortOnDropHandle::new(tokio::spawn(Servers::connect(&context.bus)?.watch(config.servers)));
    let tokens = Tokens::new(context.bus.clone(), callers.clone());
    let (reporter, health_service) = tonic_health::server::health_reporter();
    let _watch = AbortOnDropHandle::new(tokio::spawn(watch(context.bus, health, reporter, shutdown.clone())));
    let _discovery = AbortOnDropHandle::new(tokio::spawn(runs.clone().discover(config.runs)));
    let services = serve::Services {
        calls: calls::Calls::new(metrics.calls.clone()),
        commands: Guarded::new(Commands::new(runs.clone(), callers.clone(), metrics), gate.clone()),
        tokens: Guarded::new(tokens, gate.clone()),
        runs: Guarded::new(RunCalls::new(runs, callers, quotas), gate),
        health: health_service,
    };
    serve::serve(&config, services, listener, shutdown).await
}

/// Keeps readiness: Redis answers, and we are not about to stop.
async fn watch(bus: Bus, health: Health, reporter: HealthReporter, shutdown: Shutdown) {
    let ping = || async {
        let answer = bus.ping_as(Part::Control).await;
        let status = if answer.is_ok() { ServingStatus::Serving } else { ServingStatus::NotServing };
        report(&reporter, status).await;
        answer
    };
    health.watch_redis(ping, shutdown).await;
    report(&reporter, ServingStatus::NotServing).await;
}

async fn report(reporter: &HealthReporter, status: ServingStatus) {
    for service in SERVICES {
        reporter.set_service_status(service, status).await;
    }
}
