//! Logs, metrics and traces, from one call at the start to one at the end.

use std::{env, process, thread, time::Duration};

use anyhow::{Context as _, ensure};
use hyper::Uri;
use opentelemetry::{KeyValue, global};
use opentelemetry_sdk::{
    Resource, error::OTelSdkError, metrics::SdkMeterProvider, propagation::TraceContextPropagator,
    trace::SdkTracerProvider,
};
use serde::{Deserialize, Deserializer, de::Error as _};
use tokio::runtime::{Handle, RuntimeFlavor};
use tracing_subscriber::{Layer as _, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::{logs, metrics, panics, traces};

pub use crate::{logs::LogFormat, metrics::Prometheus};

/// How long the last spans and figures have to reach the collector.
const FLUSH: Duration = Duration::from_secs(5);

/// Configuration of logs, metrics and traces.
#[derive(Clone, Debug, Deserialize)]
pub struct TelemetryConfig {
    /// Which log lines to write, as `tracing`'s env-filter: `info`, `warn,runcast_bus=debug`.
    #[serde(deserialize_with = "log_filter")]
    pub log: String,
    /// `auto`, `pretty` or `json`.
    pub log_format: LogFormat,
    /// Where traces and metrics are pushed over OTLP/gRPC, e.g. `http://collector:4317`. Empty: where
    /// the standard `OTEL_EXPORTER_OTLP_ENDPOINT` says, and nowhere without it.
    #[serde(deserialize_with = "otlp_endpoint")]
    pub otlp_endpoint: String,
    /// Which share of the traces that start here is kept, 0 to 1.
    #[serde(deserialize_with = "ratio")]
    pub otlp_sample_ratio: f64,
}

impl TelemetryConfig {
    /// Whether there is a collector to send to.
    pub(crate) fn exports(&self) -> bool {
        otlp(&self.otlp_endpoint).is_some()
    }
}

/// Logs, metrics and traces while they run. Keep it until the end and [shut it down](Self::shutdown),
/// or the last seconds are lost.
#[derive(Debug)]
#[must_use = "the last spans and figures are sent by `shutdown`"]
pub struct Telemetry {
    meters: SdkMeterProvider,
    tracers: Option<SdkTracerProvider>,
    prometheus: Prometheus,
}

impl Telemetry {
    /// Starts everything and makes it the process's own: logs to stderr, the global meter and tracer
    /// providers, W3C Trace Context, panics as log lines. Once a process; inside a Tokio runtime if
    /// OTLP is on.
    ///
    /// # Errors
    /// A bad filter or endpoint, or a second call.
    pub fn init(service: &'static str, config: &TelemetryConfig) -> anyhow::Result<Telemetry> {
        let otlp = otlp(&config.otlp_endpoint);
        ensure!(otlp.is_none() || Handle::try_current().is_ok(), "OTLP needs a Tokio runtime to start in");
        let filter = logs::filter(&config.log).with_context(|| format!("bad log filter `{}`", config.log))?;

        let resource = resource(service);
        let (meters, prometheus) = metrics::provider(resource.clone(), otlp.as_ref())?;
        let tracers = otlp
            .map(|endpoint| traces::provider(resource, &endpoint, config.otlp_sample_ratio))
            .transpose()?;

        let spans = tracers.as_ref().map(|provider| traces::layer(service, provider));
        tracing_subscriber::registry()
            .with(spans)
            .with(logs::layer(config.log_format, filter).boxed())
            .try_init()
            .context("telemetry has been started already")?;
        panics::log();
        global::set_text_map_propagator(TraceContextPropagator::new());
        global::set_meter_provider(meters.clone());
        if let Some(provider) = &tracers {
            global::set_tracer_provider(provider.clone());
        }
        Ok(Telemetry { meters, tracers, prometheus })
    }

    /// Metrics that nobody sees, nothing global, nothing sent: for tests of what needs a `Telemetry`.
    ///
    /// # Errors
    /// Those of the Prometheus exporter.
    pub fn detached(service: &'static str) -> anyhow::Result<Telemetry> {
        let (meters, prometheus) = metrics::provider(resource(service), None)?;
        Ok(Telemetry { meters, tracers: None, prometheus })
    }

    /// The metrics now, as Prometheus text.
    #[must_use]
    pub fn prometheus_text(&self) -> String {
        self.prometheus.text()
    }

    /// A handle that reads the metrics.
    #[must_use]
    pub fn prometheus(&self) -> Prometheus {
        self.prometheus.clone()
    }

    /// The provider behind the metrics, which after [`init`](Self::init) is the global one.
    #[must_use]
    pub fn meter_provider(&self) -> &SdkMeterProvider {
        &self.meters
    }

    /// Sends what has not been sent yet, for five seconds at the most. Blocks; call it last, on a
    /// multi-threaded runtime (a current-thread one cannot send while it is blocked).
    pub fn shutdown(self) {
        let multi_threaded =
            Handle::try_current().is_ok_and(|handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread);
        if multi_threaded { tokio::task::block_in_place(|| self.flush()) } else { self.flush() }
    }

    fn flush(&self) {
        let warn = |what, result: Result<(), OTelSdkError>| {
            if let Err(error) = result {
                tracing::warn!(%error, what, "not everything was sent");
            }
        };
        // Both at once: with a collector that is gone each takes its whole time.
        thread::scope(|scope| {
            scope.spawn(|| warn("metrics", self.meters.shutdown_with_timeout(FLUSH)));
            if let Some(tracers) = &self.tracers {
                warn("traces", tracers.shutdown_with_timeout(FLUSH));
            }
        });
    }
}

fn otlp(endpoint: &str) -> Option<metrics::OtlpEndpoint> {
    let standard = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"];
    if !endpoint.is_empty() {
        Some(metrics::OtlpEndpoint::Url(endpoint.to_owned()))
    } else if standard.iter().any(|name| env::var_os(name).is_some_and(|value| !value.is_empty())) {
        Some(metrics::OtlpEndpoint::FromEnvironment)
    } else {
        None
    }
}

fn resource(service: &'static str) -> Resource {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    Resource::builder()
        .with_service_name(service)
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_attribute(KeyValue::new("service.instance.id", format!("{}-{}", host.trim(), process::id())))
        .build()
}

fn log_filter<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    let explain = |error| {
        format!("{error}; expected a level or target=level, such as `info` or `warn,runcast_bus=debug`")
    };
    logs::filter(&text).map_err(explain).map_err(D::Error::custom)?;
    Ok(text)
}

fn otlp_endpoint<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    let is_url = |text: &str| {
        text.parse::<Uri>().is_ok_and(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https"))
                && uri.host().is_some_and(|host| !host.is_empty())
        })
    };
    if text.is_empty() || is_url(&text) {
        Ok(text)
    } else {
        Err(D::Error::custom("expected a URL such as `http://collector:4317`, or nothing"))
    }
}

fn ratio<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let ratio = f64::deserialize(deserializer)?;
    if (0.0..=1.0).contains(&ratio) {
        Ok(ratio)
    } else {
        Err(D::Error::custom("expected a number from 0 to 1"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load_from;

    const DEFAULTS: &str = r#"
        log = "info"
        log_format = "auto"
        otlp_endpoint = ""
        otlp_sample_ratio = 1.0
    "#;

    fn with(key: &str, value: &str) -> Result<TelemetryConfig, String> {
        load_from(DEFAULTS, None, [], &[(key, value.to_owned())]).map_err(|error| error.to_string())
    }

    #[test]
    fn good_values_are_taken() {
        assert_eq!(with("log", "warn,runcast_bus=debug").unwrap().log, "warn,runcast_bus=debug");
        assert_eq!(with("log_format", "json").unwrap().log_format, LogFormat::Json);
        assert_eq!(
            with("otlp_endpoint", "http://collector:4317").unwrap().otlp_endpoint,
            "http://collector:4317"
        );
        assert_eq!(with("otlp_sample_ratio", "0.25").unwrap().otlp_sample_ratio, 0.25);
    }

    #[test]
    fn bad_values_are_refused_with_what_is_expected() {
        for (key, value, expected) in [
            ("log", "runcast_bus=loud", "such as `info`"),
            ("log_format", "xml", "`auto`, `pretty` or `json`"),
            ("otlp_endpoint", "collector:4317", "`http://collector:4317`"),
            ("otlp_sample_ratio", "10", "from 0 to 1"),
        ] {
            let error = with(key, value).unwrap_err();
            assert!(
                error.starts_with(&format!("command line: bad value `{value}` for `{key}`: ")),
                "{error}"
            );
            assert!(error.contains(expected), "{error}");
        }
    }
}
