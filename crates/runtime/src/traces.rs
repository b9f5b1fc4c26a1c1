//! Traces: spans of `tracing`, pushed over OTLP.

use anyhow::Context as _;
use opentelemetry::{
    Context, KeyValue,
    trace::{Link, SpanKind, TraceId, TracerProvider as _},
};
use opentelemetry_otlp::WithExportConfig as _;
use opentelemetry_sdk::{
    Resource,
    trace::{Sampler, SamplingResult, SdkTracerProvider, ShouldSample},
};
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::{Layer, filter::filter_fn, registry::LookupSpan};

use crate::metrics::OtlpEndpoint;

/// Targets below the exporter itself: their spans, exported, would make more of them, for ever.
const BELOW_EXPORTER: [&str; 6] = ["h2", "hyper", "hyper_util", "opentelemetry", "tonic", "tower"];

pub(crate) fn provider(
    resource: Resource,
    endpoint: &OtlpEndpoint,
    sample_ratio: f64,
) -> anyhow::Result<SdkTracerProvider> {
    let exporter = opentelemetry_otlp::SpanExporter::builder().with_tonic();
    let exporter = match endpoint {
        OtlpEndpoint::Url(url) => exporter.with_endpoint(url),
        OtlpEndpoint::FromEnvironment => exporter,
    };
    let exporter = exporter.build().context("cannot set up the OTLP trace exporter")?;
    // A trace is kept or dropped as a whole: only its root is drawn for, the rest follow their parent.
    let sampler = Sampler::ParentBased(Box::new(Roots(Sampler::TraceIdRatioBased(sample_ratio))));
    Ok(SdkTracerProvider::builder()
        .with_resource(resource)
        .with_sampler(sampler)
        .with_batch_exporter(exporter)
        .build())
}

/// Decides on spans that begin a trace.
#[derive(Clone, Debug)]
struct Roots(Sampler);

impl ShouldSample for Roots {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        // Messages were drawn for before a span was made: for each of them one would cost too much.
        let sampler = if *kind == SpanKind::Producer { &Sampler::AlwaysOn } else { &self.0 };
        sampler.should_sample(parent, trace, name, kind, attributes, links)
    }
}

/// Spans of level info and above go to the provider, whatever the log filter says.
pub(crate) fn layer<S>(service: &'static str, provider: &SdkTracerProvider) -> impl Layer<S> + use<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    tracing_opentelemetry::layer().with_tracer(provider.tracer(service)).with_filter(filter_fn(is_exported))
}

fn is_exported(metadata: &Metadata<'_>) -> bool {
    let root = metadata.target().split([':', '-']).next().unwrap_or_default();
    *metadata.level() <= Level::INFO && !BELOW_EXPORTER.iter().any(|below| root.starts_with(below))
}
