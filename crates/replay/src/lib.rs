//! Serves the history of runs, and keeps it after Redis has let it go.
//!
//! The [`archiver`] moves what runs say to the [`archive`], object storage, before Redis forgets it;
//! [`history`] reads both as one; the [`readmodel`] is what is known of each run as a whole; [`restore`]
//! lends what only the archive has to the other services, through Redis.

pub mod archive;
pub mod archiver;
pub mod config;
pub mod context;
pub mod error;
pub mod history;
pub mod metrics;
pub mod query;
pub mod readmodel;
pub mod restore;
pub mod routes;
pub mod tag;

use anyhow::Context as _;
use runcast_auth::Gate;
use runcast_bus::{Bus, Part, Subscriber};
use runcast_runtime::cors::Cors;
use runcast_runtime::http::{Proxies, ServeOptions, TlsConfig, serve};
use runcast_runtime::rates::Rate;
use runcast_runtime::{Health, Shutdown};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use crate::archive::Archive;
use crate::config::{Config, HttpConfig};
use crate::context::Context;
use crate::metrics::Metrics;
use crate::readmodel::Catalog;
use crate::routes::Routes;

/// Serves history on `listener` until `shutdown`.
///
/// # Errors
/// If the configuration cannot be used.
pub async fn run(
    config: Config,
    listener: TcpListener,
    health: Health,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    let bus = Bus::connect(&config.redis)?;
    let subscriber = Subscriber::connect(&bus)?;
    let gate = Gate::open(&config.auth, listener.local_addr()?, bus.clone(), subscriber.clone())?;
    let archive = Archive::open(&config.archive).context("archive.url")?;
    let cors = Cors::parse(&config.cors.origins)
        .map_err(|item| anyhow::anyhow!("{item:?} is no origin such as https://example.com"))
        .context("cors.origins")?;
    let catalog = Catalog::new();
    let context = Context { bus, archive, catalog, metrics: Metrics::new(), shutdown: shutdown.clone() };
    let pinged = context.bus.clone();
    let ping = move || {
        let bus = pinged.clone();
        async move { bus.ping_as(Part::Replay).await }
    };
    let _tasks = [
        AbortOnDropHandle::new(tokio::spawn(health.watch_redis(ping, shutdown.clone()))),
        AbortOnDropHandle::new(tokio::spawn(archiver::run(context.clone(), config.archive.clone()))),
        AbortOnDropHandle::new(tokio::spawn(readmodel::run(context.clone(), config.runs.clone()))),
        AbortOnDropHandle::new(tokio::spawn(restore::run(context.clone(), subscriber, config.restore))),
    ];
    let options = serve_options(&config.http, &config.tls)?;
    let routes = Routes { context, gate, cors, history: config.history };
    let service = move |request| {
        let routes = routes.clone();
        async move { routes.answer(request).await }
    };
    serve(listener, service, options, shutdown).await;
    Ok(())
}

fn serve_options(http: &HttpConfig, tls: &TlsConfig) -> anyhow::Result<ServeOptions> {
    let proxies = Proxies::parse(&http.trusted_proxies, http.client_header)
        .map_err(anyhow::Error::msg)
        .context("http.trusted_proxies")?;
    Ok(ServeOptions {
        header_timeout: http.header_timeout,
        drain: http.drain,
        max_connections: http.max_connections,
        write_stall: http.write_stall,
        max_connections_per_client: http.max_connections_per_client,
        requests_per_client: Rate {
            per_second: http.requests_per_second_per_client,
            burst: http.request_burst_per_client,
        },
        proxies,
        http2: None,
        tls: tls.load(false)?,
    })
}
