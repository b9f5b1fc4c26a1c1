//! A collector that speaks OTLP/gRPC and keeps what it is sent.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body_util::{BodyExt, Collected, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::wait::eventually;

const TRACES: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const METRICS: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";

/// Before a gRPC message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// A collector; it ends with this value.
#[derive(Debug)]
pub struct Collector {
    url: String,
    received: Arc<Mutex<Received>>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Received {
    spans: Vec<ExportedSpan>,
    metrics: BTreeMap<String, Vec<String>>,
}

/// A span as it was exported; ids in hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportedSpan {
    /// Who exported it.
    pub service: String,
    /// The span's name.
    pub name: String,
    /// The trace.
    pub trace: String,
    /// Itself.
    pub id: String,
    /// Its parent; empty for the first of a trace.
    pub parent: String,
    /// What it is linked to: trace and span.
    pub links: Vec<(String, String)>,
    /// Nanoseconds since 1970.
    pub start: u64,
    /// Nanoseconds since 1970.
    pub end: u64,
    /// Its attributes as text.
    pub attributes: BTreeMap<String, String>,
}

impl Collector {
    /// Starts one.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let received = Arc::default();
        let task = tokio::spawn(serve(listener, Arc::clone(&received)));
        Self { url, received, task }
    }

    /// Settings that have a service send everything here, soon, and trace that share of messages.
    pub fn settings(&self, ratio: f64) -> [(String, String); 4] {
        let soon = Duration::from_millis(200).as_millis().to_string();
        [
            ("RUNCAST__TELEMETRY__OTLP_ENDPOINT".to_owned(), self.url.clone()),
            ("RUNCAST__TELEMETRY__OTLP_SAMPLE_RATIO".to_owned(), ratio.to_string()),
            ("OTEL_BSP_SCHEDULE_DELAY".to_owned(), soon.clone()),
            ("OTEL_METRIC_EXPORT_INTERVAL".to_owned(), soon),
        ]
    }

    /// The spans so far.
    pub fn spans(&self) -> Vec<ExportedSpan> {
        self.received.lock().unwrap().spans.clone()
    }

    /// The first span that `wanted` takes; waits for it.
    pub async fn span(&self, what: &str, wanted: impl Fn(&ExportedSpan) -> bool) -> ExportedSpan {
        eventually(what, Duration::from_secs(20), async || self.spans().into_iter().find(&wanted)).await
    }

    /// The names of the metrics that a service has sent so far.
    pub fn metrics(&self, service: &str) -> Vec<String> {
        self.received.lock().unwrap().metrics.get(service).cloned().unwrap_or_default()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, received: Arc<Mutex<Received>>) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let received = received.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let received = received.clone();
            async move {
                let path = request.uri().path().to_owned();
                let body = request.into_body().collect().await.map(Collected::to_bytes);
                received.lock().unwrap().take(&path, &body.unwrap_or_default());
                Ok::<_, Infallible>(accepted())
            }
        });
        let connection = http2::Builder::new(TokioExecutor::new());
        connections.spawn(connection.serve_connection(TokioIo::new(stream), service));
    }
}

/// An empty message and status 0: how gRPC says that all is well.
fn accepted() -> Response<impl hyper::body::Body<Data = Bytes, Error = Infallible>> {
    let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), "0".parse().unwrap())]);
    let frames = [Frame::data(Bytes::from_static(&[0; PREFIX])), Frame::trailers(trailers)];
    let body = StreamBody::new(futures_util::stream::iter(frames.map(Ok)));
    Response::builder().header("content-type", "application/grpc").body(body).unwrap()
}

impl Received {
    fn take(&mut self, path: &str, body: &[u8]) {
        let message = body.get(PREFIX..).unwrap_or_default();
        match path {
            TRACES => {
                let export = ExportTraceServiceRequest::decode(message).expect("spans");
                for resource in export.resource_spans {
                    let service = service(resource.resource);
                    let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
                    self.spans.extend(spans.map(|span| exported(&service, span)));
                }
            }
            METRICS => {
                let export = ExportMetricsServiceRequest::decode(message).expect("metrics");
                for resource in export.resource_metrics {
                    let known = self.metrics.entry(service(resource.resource)).or_default();
                    for metric in resource.scope_metrics.into_iter().flat_map(|scope| scope.metrics) {
                        if !known.contains(&metric.name) {
                            known.push(metric.name);
                        }
                    }
                }
            }
            path => panic!("nothing is known of {path}"),
        }
    }
}

fn service(resource: Option<Resource>) -> String {
    let mut attributes = attributes(resource.map(|resource| resource.attributes).unwrap_or_default());
    attributes.remove("service.name").unwrap_or_default()
}

fn exported(service: &str, span: Span) -> ExportedSpan {
    ExportedSpan {
        service: service.to_owned(),
        name: span.name,
        trace: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        links: span.links.iter().map(|link| (hex(&link.trace_id), hex(&link.span_id))).collect(),
        start: span.start_time_unix_nano,
        end: span.end_time_unix_nano,
        attributes: attributes(span.attributes),
    }
}

fn attributes(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    attributes.into_iter().map(|KeyValue { key, value, .. }| (key, text(value))).collect()
}

fn text(value: Option<AnyValue>) -> String {
    match value.and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
