//! Streams runs to browsers over Server-Sent Events: each message once, in order, to viewers who
//! can leave and come back with a cursor.
//!
//! A run that somebody watches has one [`feed`]; it passes messages on to the run's [`view`]s,
//! which encode each once into a [`ring`] that all their [`viewer`]s read. A viewer that has read all there is
//! sits in a [`row`] and is written to when there is more.

pub mod archived;
pub mod assets;
pub mod catch_up;
pub mod chunk;
pub mod compression;
pub mod config;
pub mod connection;
pub mod debug;
pub mod drain;
pub mod error;
pub mod feed;
pub mod hub;
pub mod intake;
pub mod live;
pub mod metrics;
pub mod outlet;
pub mod pages;
pub mod past;
pub mod request;
pub mod ring;
pub mod ring_reader;
pub mod routes;
pub mod row;
pub mod run_info;
pub mod seat;
pub mod share;
pub mod shared_reader;
pub mod sight;
pub mod snapshot;
pub mod tickets;
pub mod traced;
pub mod tracker;
pub mod turns;
pub mod usher;
pub mod view;
pub mod viewer;
pub mod websocket;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use runcast_auth::Gate;
use runcast_bus::{Bus, Part, Subscriber};
use runcast_runtime::cors::Cors;
use runcast_runtime::http::{Http2Options, Proxies, ServeOptions, TlsConfig, serve};
use runcast_runtime::rates::Rate;
use runcast_runtime::{Health, MessageTraces, Shutdown};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use crate::config::{Config, HttpConfig, bytes};
use crate::drain::Drain;
use crate::feed::FeedContext;
use crate::hub::Hub;
use crate::intake::Intake;
use crate::metrics::Metrics;
use crate::pages::Pages;
use crate::routes::Routes;
use crate::share::Shares;
use crate::sight::Sights;
use crate::tickets::Tickets;
use crate::usher::Usher;
use crate::viewer::ViewerContext;

/// Connections that wait to be taken, where thousands come at once; the kernel may allow fewer
/// (net.core.somaxconn). One that finds no room tries again only after a second.
const BACKLOG: i32 = 4096;

/// Serves viewers on `listener` until `shutdown`, then lets them go over the drain time.
///
/// # Errors
/// If the configuration cannot be used.
pub async fn run(
    config: Config,
    listener: TcpListener,
    health: Health,
    sights: Sights,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    let bus = Bus::connect(&config.redis)?.asking_past(config.past.wait);
    let intake = Intake::start().context("no thread for what redis publishes")?;
    let subscriber = {
        let _there = intake.handle().enter();
        Subscriber::connect(&bus)?
    };
    let gate = Gate::open(&config.auth, listener.local_addr()?, bus.clone(), subscriber.clone())?;
    let metrics = Metrics::new();
    let cors = Cors::parse(&config.cors.origins)
        .map_err(|item| anyhow::anyhow!("{item:?} is no origin such as https://example.com"))
        .context("cors.origins")?;
    let encodings = config
        .sse
        .compression
        .parse()
        .map_err(|name| anyhow::anyhow!("{name:?} is none of zstd, br and gzip"))
        .context("sse.compression")?;
    let pinged = bus.clone();
    let ping = move || {
        let bus = pinged.clone();
        async move { bus.ping_as(Part::Fanout).await }
    };
    let _watch = AbortOnDropHandle::new(tokio::spawn(health.watch_redis(ping, shutdown.clone())));

    rustix::net::listen(&listener, BACKLOG).context("http.listen cannot listen")?;
    let send_buffer = bytes(config.http.send_buffer);
    if send_buffer > 0 {
        // Connections have it from their listener.
        rustix::net::sockopt::set_socket_send_buffer_size(&listener, send_buffer)
            .context("http.send_buffer cannot be set")?;
    }
    let ring = config.view.ring();
    let traces = MessageTraces::new("runcast-fanout", &config.telemetry);
    let pages = Pages::new(bus.clone(), &config.catch_up, metrics.clone(), traces.clone());
    let context = FeedContext { bus, pages, config: config.feed, ring, metrics: metrics.clone(), traces };
    let hub = Hub::new(subscriber, context, intake.handle().clone());
    let usher = Usher::default();
    let viewers = ViewerContext {
        hub,
        heartbeat: config.sse.heartbeat,
        retry: config.sse.retry,
        snapshot_bytes: bytes(config.sse.snapshot_bytes),
        drain: Drain::new(shutdown.clone(), config.drain.time),
        metrics,
        write_stall: config.http.write_stall,
        usher: usher.clone(),
        sights,
    };
    let _ushering = AbortOnDropHandle::new(tokio::spawn(usher.work(config.sse.heartbeat, shutdown.clone())));
    let routes = Routes {
        tickets: Tickets::new(gate.clone(), config.tickets),
        gate,
        shares: Shares::new(config.auth_limits.max_streams_per_holder),
        viewers: Arc::new(viewers),
        cors,
        page: assets::Page::new(&config.page.control_url, &config.page.replay_url),
        open_wait: config.sse.open_wait,
        encodings,
    };
    let options = serve_options(&config.http, &config.tls, config.drain.time)?;
    let service = move |request| {
        let routes = routes.clone();
        async move { routes.answer(request).await }
    };
    serve(listener, service, options, shutdown).await;
    Ok(())
}

fn serve_options(http: &HttpConfig, tls: &TlsConfig, drain: Duration) -> anyhow::Result<ServeOptions> {
    let proxies = Proxies::parse(&http.trusted_proxies, http.client_header)
        .map_err(anyhow::Error::msg)
        .context("http.trusted_proxies")?;
    Ok(ServeOptions {
        header_timeout: http.header_timeout,
        // Viewers leave by themselves within the drain time; then their answers end.
        drain: drain + Duration::from_secs(1),
        max_connections: http.max_connections,
        write_stall: http.write_stall,
        max_connections_per_client: http.max_connections_per_client,
        requests_per_client: Rate {
            per_second: http.requests_per_second_per_client,
            burst: http.request_burst_per_client,
        },
        proxies,
        http2: http.http2.then_some(Http2Options {
            max_streams: http.max_streams,
            keepalive: http.keepalive,
            idle: http.header_timeout,
        }),
        tls: tls.load(http.http2)?,
    })
}
