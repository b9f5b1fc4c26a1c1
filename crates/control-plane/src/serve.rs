//! The gRPC server: our services, health, reflection and gRPC-Web, behind the limits that all our servers have.

use std::time::Duration;

use anyhow::Context;
use http::{HeaderName, HeaderValue, Request, Response, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use runcast_protocol::grpc::control::DESCRIPTORS;
use runcast_protocol::grpc::control::command_service_server::CommandServiceServer;
use runcast_protocol::grpc::control::run_service_server::RunServiceServer;
use runcast_protocol::grpc::control::token_service_server::TokenServiceServer;
use runcast_runtime::Shutdown;
use runcast_runtime::http::{self as server, Http2Options, Proxies, ServeOptions};
use tokio::net::TcpListener;
use tonic::body::Body;
use tonic::service::Routes;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_web::GrpcWebLayer;
use tower::{ServiceBuilder, ServiceExt as _, service_fn};
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::calls::Calls;
use crate::commands::Commands;
use crate::config::{Config, GrpcConfig};
use crate::guard::Guarded;
use crate::patience;
use crate::run_service::RunCalls;
use crate::token_service::Tokens;

/// How long calls may go on after a shutdown was asked for: watchers would never end by themselves.
const DRAIN: Duration = Duration::from_secs(5);

/// A connection whose client takes nothing for so long is closed.
const WRITE_STALL: Duration = Duration::from_secs(60);

/// Headers of gRPC that pages must be able to read.
const EXPOSED: [&str; 3] = ["grpc-status", "grpc-message", "grpc-status-details-bin"];

/// What is served.
pub(crate) struct Services<H: Health> {
    pub(crate) calls: Calls,
    pub(crate) commands: Guarded<Commands>,
    pub(crate) runs: Guarded<RunCalls>,
    pub(crate) tokens: Guarded<Tokens>,
    pub(crate) health: HealthServer<H>,
}

/// Serves until `shutdown`, and what is under way then for a little longer.
pub(crate) async fn serve<H: Health>(
    config: &Config,
    services: Services<H>,
    listener: TcpListener,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    let options = ServeOptions { tls: config.tls.load(true)?, ..options(&config.grpc)? };
    let (calls, cors, patience) =
        (services.calls.clone(), cors(&config.cors.origins)?, config.grpc.request_timeout);
    let routes = routes(&config.grpc, services)?.prepare();
    let in_time = service_fn(move |request| patience::answer(routes.clone(), request, patience));
    let service = ServiceBuilder::new().layer(cors).layer(GrpcWebLayer::new()).layer(calls).service(in_time);
    let answer = move |request: Request<Incoming>| {
        let answer = service.clone().oneshot(request.map(Body::new));
        async move {
            let response: Response<Body> = answer.await.unwrap_or_else(|never| match never {});
            response.map(|body| body.map_err(Into::into).boxed_unsync())
        }
    };
    server::serve(listener, answer, options, shutdown).await;
    Ok(())
}

fn routes<H: Health>(config: &GrpcConfig, services: Services<H>) -> anyhow::Result<Routes> {
    let largest = usize::try_from(config.max_message.as_u64()).unwrap_or(usize::MAX);
    let routes = Routes::new(services.health)
        .add_service(CommandServiceServer::new(services.commands).max_decoding_message_size(largest))
        .add_service(RunServiceServer::new(services.runs).max_decoding_message_size(largest))
        .add_service(TokenServiceServer::new(services.tokens).max_decoding_message_size(largest));
    if !config.reflection {
        return Ok(routes);
    }
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    // Python's grpcio-reflection, and many a tool besides, still know only the older one.
    Ok(routes
        .add_service(reflection().build_v1().context("reflection")?)
        .add_service(reflection().build_v1alpha().context("reflection")?))
}

fn options(config: &GrpcConfig) -> anyhow::Result<ServeOptions> {
    let proxies = Proxies::parse(&config.trusted_proxies, config.client_header)
        .map_err(anyhow::Error::msg)
        .context("grpc.trusted_proxies")?;
    Ok(ServeOptions {
        header_timeout: config.request_timeout,
        drain: DRAIN,
        max_connections: config.max_connections,
        write_stall: WRITE_STALL,
        max_connections_per_client: config.max_connections_per_client,
        proxies,
        http2: Some(Http2Options {
            max_streams: config.max_streams,
            keepalive: config.keepalive,
            idle: config.idle,
        }),
        ..ServeOptions::default()
    })
}

fn cors(origins: &str) -> anyhow::Result<CorsLayer> {
    let allowed = match origins.trim() {
        "*" => AllowOrigin::any(),
        list => {
            let origins = list.split(',').map(str::trim).filter(|origin| !origin.is_empty());
            let parsed: Result<Vec<HeaderValue>, _> = origins.map(str::parse).collect();
            AllowOrigin::list(parsed.context("cors.origins: expected origins such as https://example.com")?)
        }
    };
    let requested = ["x-grpc-web", "x-user-agent", "grpc-timeout", "runcast-caller"];
    let requested = requested
        .into_iter()
        .map(HeaderName::from_static)
        .chain([header::CONTENT_TYPE, header::AUTHORIZATION]);
    Ok(CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods([http::Method::POST])
        .allow_headers(requested.collect::<Vec<_>>())
        .expose_headers(EXPOSED.map(HeaderName::from_static)))
}
