//! Metrics: always readable as Prometheus text, and pushed over OTLP when there is where to.

use anyhow::Context as _;
use opentelemetry_otlp::WithExportConfig as _;
use opentelemetry_sdk::{
    Resource,
    metrics::{MeterProviderBuilder, SdkMeterProvider},
};
use prometheus::{Registry, TextEncoder};

/// Reads the metrics as Prometheus text. Clones read the same ones.
#[derive(Clone, Debug)]
pub struct Prometheus {
    registry: Registry,
}

impl Prometheus {
    /// The metrics now, in the text format 0.0.4.
    #[must_use]
    pub fn text(&self) -> String {
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_else(|error| {
            tracing::error!(%error, "cannot encode metrics");
            String::new()
        })
    }
}

/// Where OTLP goes: a URL, or what the standard `OTEL_EXPORTER_OTLP_*` variables say.
#[derive(Clone, Debug)]
pub(crate) enum OtlpEndpoint {
    Url(String),
    FromEnvironment,
}

pub(crate) fn provider(
    resource: Resource,
    otlp: Option<&OtlpEndpoint>,
) -> anyhow::Result<(SdkMeterProvider, Prometheus)> {
    let registry = Registry::new();
    let reader = opentelemetry_prometheus::exporter()
        .with_registry(registry.clone())
        // Every metric is ours and already has a name of its own: the label would only be noise.
        .scope_info_enabled(false)
        .build()
        .context("cannot set up the Prometheus exporter")?;
    let mut builder = SdkMeterProvider::builder().with_resource(resource).with_reader(reader);
    if let Some(endpoint) = otlp {
        builder = push(builder, endpoint).context("cannot set up the OTLP metrics exporter")?;
    }
    Ok((builder.build(), Prometheus { registry }))
}

fn push(builder: MeterProviderBuilder, endpoint: &OtlpEndpoint) -> anyhow::Result<MeterProviderBuilder> {
    let exporter = opentelemetry_otlp::MetricExporter::builder().with_tonic();
    let exporter = match endpoint {
        OtlpEndpoint::Url(url) => exporter.with_endpoint(url),
        OtlpEndpoint::FromEnvironment => exporter,
    };
    Ok(builder.with_periodic_exporter(exporter.build()?))
}
