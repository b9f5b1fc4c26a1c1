//! The gRPC server: our services, health, reflection, gRPC-Web and TLS.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use http::{HeaderName, HeaderValue, header};
use runcast_protocol::grpc::control::DESCRIPTORS;
use runcast_protocol::grpc::control::command_service_server::CommandServiceServer;
use runcast_protocol::grpc::control::run_service_server::RunServiceServer;
use runcast_protocol::grpc::control::token_service_server::TokenServiceServer;
use runcast_runtime::Shutdown;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_web::GrpcWebLayer;
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::calls::Calls;
use crate::commands::Commands;
use crate::config::{Config, TlsConfig};
use crate::guard::Guarded;
use crate::run_service::RunCalls;
use crate::token_service::Tokens;

/// How long calls may go on after a shutdown was asked for: watchers would never end by themselves.
const DRAIN: Duration = Duration::from_secs(5);

/// How long a client may take to answer a ping.
const PING_TIMEOUT: Duration = Duration::from_secs(10);

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
    let largest = usize::try_from(config.grpc.max_message.as_u64()).unwrap_or(usize::MAX);
    let mut server = Server::builder()
        // gRPC-Web comes over HTTP/1.1.
        .accept_http1(true)
        .tcp_nodelay(true)
        .max_concurrent_streams(config.grpc.max_streams)
        .http2_keepalive_interval(Some(config.grpc.keepalive))
        .http2_keepalive_timeout(Some(PING_TIMEOUT));
    if let Some(tls) = tls(&config.tls)? {
        server = server.tls_config(tls).context("tls")?;
    }
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let reflected = config.grpc.reflection;
    let v1 = reflected.then(|| reflection().build_v1()).transpose().context("reflection")?;
    // Python's grpcio-reflection, and many a tool besides, still know only this one.
    let v1alpha = reflected.then(|| reflection().build_v1alpha()).transpose().context("reflection")?;
    let router = server
        .layer(cors(&config.cors.origins)?)
        .layer(GrpcWebLayer::new())
        .layer(services.calls)
        .add_optional_service(v1)
        .add_optional_service(v1alpha)
        .add_service(services.health)
        .add_service(CommandServiceServer::new(services.commands).max_decoding_message_size(largest))
        .add_service(RunServiceServer::new(services.runs).max_decoding_message_size(largest))
        .add_service(TokenServiceServer::new(services.tokens).max_decoding_message_size(largest));
    let stopped = shutdown.clone();
    let serving = router.serve_with_incoming_shutdown(TcpListenerStream::new(listener), async move {
        stopped.triggered().await;
    });
    let cut_off = async {
        shutdown.triggered().await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        served = serving => served.context("serving"),
        () = cut_off => {
            tracing::info!(after = ?DRAIN, "calls that were still open are cut off");
            Ok(())
        }
    }
}

fn tls(config: &TlsConfig) -> anyhow::Result<Option<ServerTlsConfig>> {
    let given = |path: &Path| !path.as_os_str().is_empty();
    match (given(&config.certificate_file), given(&config.key_file)) {
        (false, false) if given(&config.client_ca_file) => {
            anyhow::bail!("tls.client_ca_file is set, but not tls.certificate_file and tls.key_file")
        }
        (false, false) => return Ok(None),
        (true, true) => {}
        _ => anyhow::bail!("tls.certificate_file and tls.key_file belong together: set both or none"),
    }
    let read = |name: &str, path: &Path| {
        std::fs::read(path).with_context(|| format!("tls.{name} {} cannot be read", path.display()))
    };
    let certificate = read("certificate_file", &config.certificate_file)?;
    let identity = Identity::from_pem(certificate, read("key_file", &config.key_file)?);
    let mut tls = ServerTlsConfig::new().identity(identity);
    if given(&config.client_ca_file) {
        tls = tls.client_ca_root(Certificate::from_pem(read("client_ca_file", &config.client_ca_file)?));
    }
    Ok(Some(tls))
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
