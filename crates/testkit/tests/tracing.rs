//! One trace from the agent's word to the viewer, as a collector gets it.

#![allow(clippy::unwrap_used, reason = "this is test code")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::trace::v1::Span;
use runcast_testkit::{Fanout, Redis, Sidecar, eventually};
use tokio::net::TcpListener;
use tonic::transport::server::{Server, TcpIncoming};
use tonic::{Request, Response, Status};

const SOON: Duration = Duration::from_secs(60);

/// A collector that keeps what it gets: each span with its service.
#[derive(Debug, Clone, Default)]
struct Collector {
    spans: Arc<Mutex<Vec<(String, Span)>>>,
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for resource in request.into_inner().resource_spans {
            let attributes = resource.resource.unwrap_or_default().attributes;
            let service = attributes.iter().find(|attribute| attribute.key == "service.name").unwrap();
            let service = format!("{:?}", service.value);
            let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            self.spans.lock().unwrap().extend(spans.map(|span| (service.clone(), span)));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    /// One that listens, and its address.
    async fn start() -> (Self, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let collector = Self::default();
        let service = TraceServiceServer::new(collector.clone());
        let incoming = TcpIncoming::from(listener);
        tokio::spawn(Server::builder().add_service(service).serve_with_incoming(incoming));
        (collector, url)
    }

    /// The spans of a name, of the service whose name contains `service`.
    fn of(&self, service: &str, name: &str) -> Vec<Span> {
        let spans = self.spans.lock().unwrap();
        let chosen = spans.iter().filter(|(of, span)| of.contains(service) && span.name == name);
        chosen.map(|(_, span)| span.clone()).collect()
    }
}

/// Runs an agent that says three words, with a viewer, and returns what the collector got.
async fn told(run: &str, options: &[(&str, &str)]) -> Collector {
    let (collector, url) = Collector::start().await;
    let redis = Redis::start().await;
    let telemetry = [("RUNCAST__TELEMETRY__OTLP_ENDPOINT", &*url), ("OTEL_BSP_SCHEDULE_DELAY", "50")];
    let fanout = Fanout::start_with(&redis.url(), &telemetry).await;
    let mut viewer = fanout.viewer(run, "");
    viewer.reconnect(SOON).await.unwrap();
    let mut sidecar = Sidecar::new(&redis.url(), run, "var-1");
    for (name, value) in telemetry.iter().chain(options) {
        sidecar = sidecar.set(name, value);
    }
    let mut agent = sidecar.exec(&["sh", "-c", "echo one; echo two; echo three"]);
    viewer.watch_to_end(SOON).await.unwrap();
    assert!(agent.wait(SOON).await.success());
    assert_eq!(viewer.history.text("var-1"), "one\ntwo\nthree\n");
    let spans = collector.clone();
    if options.iter().any(|(_, value)| *value != "0") {
        let delivered = async || (!spans.of("fanout", "deliver").is_empty()).then_some(());
        eventually("spans of the fan-out", SOON, delivered).await;
    }
    drop(fanout);
    collector
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_agents_trace_goes_on_to_the_viewers() {
    let (trace, parent) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
    let traceparent = format!("00-{trace}-{parent}-01");
    let collector = told("run-1", &[("TRACEPARENT", &traceparent)]).await;
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let (accepted, delivered) = (collector.of("sidecar", "accept"), collector.of("fanout", "deliver"));
    for span in accepted.iter().chain(&delivered) {
        assert_eq!((&*hex(&span.trace_id), &*hex(&span.parent_span_id)), (trace, parent), "{span:?}");
        assert!(span.end_time_unix_nano >= span.start_time_unix_nano);
    }
    let appended = collector.of("sidecar", "append");
    assert!(!accepted.is_empty() && !appended.is_empty());
    let links = appended.iter().flat_map(|span| &span.links);
    assert!(links.into_iter().all(|link| hex(&link.trace_id) == trace));
    let begun = |spans: &[Span]| spans.iter().map(|span| span.start_time_unix_nano).min().unwrap();
    assert!(begun(&accepted) < begun(&delivered));
    if let Some(file) = std::env::var_os("RUNCAST_TRACE_FILE") {
        std::fs::write(file, format!("{:#?}", collector.spans.lock().unwrap())).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_without_a_trace_begins_one_where_it_is_drawn_for_that() {
    let collector = told("run-1", &[("RUNCAST__TELEMETRY__OTLP_SAMPLE_RATIO", "1")]).await;
    let accepted = collector.of("sidecar", "accept");
    for span in collector.of("fanout", "deliver") {
        let parent =
            accepted.iter().find(|parent| parent.span_id == span.parent_span_id).expect("its parent");
        assert!(parent.parent_span_id.is_empty() && parent.trace_id == span.trace_id);
    }
    assert!(collector.of("sidecar", "append").iter().all(|span| !span.links.is_empty()));
    let collector = told("run-2", &[("RUNCAST__TELEMETRY__OTLP_SAMPLE_RATIO", "0")]).await;
    assert!(collector.of("sidecar", "accept").is_empty() && collector.of("fanout", "deliver").is_empty());
}
