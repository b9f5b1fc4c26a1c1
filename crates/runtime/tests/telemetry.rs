//! Telemetry as a whole, towards a collector that speaks just enough OTLP/gRPC.
//!
//! One test in a program of its own: what it starts is the process's own.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::{HeaderMap, Request, Response, body::Frame, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry::global;
use runcast_runtime::{Telemetry, TelemetryConfig, telemetry::LogFormat};
use tokio::net::TcpListener;

/// Path and body of each export.
type Exports = Arc<Mutex<Vec<(String, Bytes)>>>;

async fn collector() -> (String, Exports) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let exports = Exports::default();
    let received = exports.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let received = received.clone();
            let service = service_fn(move |request: Request<hyper::body::Incoming>| {
                let received = received.clone();
                async move {
                    let path = request.uri().path().to_owned();
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    received.lock().unwrap().push((path, body));
                    Ok::<_, Infallible>(accepted())
                }
            });
            tokio::spawn(
                http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service),
            );
        }
    });
    (url, exports)
}

/// An empty message and status 0: how gRPC says that all is well.
fn accepted() -> Response<impl hyper::body::Body<Data = Bytes, Error = Infallible>> {
    let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), "0".parse().unwrap())]);
    let frames = [Frame::data(Bytes::from_static(&[0; 5])), Frame::trailers(trailers)];
    let body = StreamBody::new(futures_util::stream::iter(frames.map(Ok)));
    Response::builder().header("content-type", "application/grpc").body(body).unwrap()
}

fn contains(body: &[u8], text: &str) -> bool {
    body.windows(text.len()).any(|window| window == text.as_bytes())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn traces_and_metrics_reach_the_collector_and_prometheus() {
    let (url, exports) = collector().await;
    let config = TelemetryConfig {
        // Spans are exported whatever the log filter says.
        log: "error".to_owned(),
        log_format: LogFormat::Json,
        otlp_endpoint: url,
        otlp_sample_ratio: 1.0,
    };
    let telemetry = Telemetry::init("runcast-test", &config).unwrap();
    assert!(Telemetry::init("runcast-test", &config).is_err(), "started twice");

    global::meter("runcast-test").u64_counter("runcast.words").with_unit("{word}").build().add(2, &[]);
    tracing::info_span!("a span of ours").in_scope(|| tracing::info!("an event"));
    tracing::debug_span!("a detail").in_scope(|| {});
    let text = telemetry.prometheus_text();
    assert!(text.contains("\nruncast_words_total 2\n"), "{text}");

    let start = Instant::now();
    telemetry.shutdown();
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());

    let exports = exports.lock().unwrap();
    let exported = |service: &str, text: &str| {
        let path = format!("/opentelemetry.proto.collector.{service}/Export");
        exports.iter().any(|(to, body)| *to == path && contains(body, "runcast-test") && contains(body, text))
    };
    assert!(exported("trace.v1.TraceService", "a span of ours"));
    assert!(!exported("trace.v1.TraceService", "a detail"));
    assert!(exported("metrics.v1.MetricsService", "runcast.words"));
    assert!(exported("metrics.v1.MetricsService", "service.instance.id"));
}
