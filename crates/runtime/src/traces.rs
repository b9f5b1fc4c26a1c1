//! Traces: spans of `tracing`, pushed over OTLP.

use anyhow::Context as _;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::WithExportConfig as _;
use opentelemetry_sdk::{
    Resource,
    trace::{Sampler, SdkTracerProvider},
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
    let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(sample_ratio)));
    Ok(SdkTracerProvider::builder()
        .with_resource(resource)
        .with_sampler(sampler)
        .with_batch_exporter(exporter)
        .build())
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
