//! The service's configuration; `default.toml` explains each option.

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::Path;
use std::time::Duration;

use bytesize::ByteSize;
use runcast_auth::AuthConfig;
use runcast_bus::RedisConfig;
use runcast_runtime::config::ConfigError;
use runcast_runtime::http::{ClientHeader, TlsConfig};
use runcast_runtime::{AdminConfig, TelemetryConfig};
use serde::Deserialize;

/// The defaults, with an explanation of each option.
pub const DEFAULTS: &str = include_str!("default.toml");

/// All of the service's configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml explains each option")]
pub struct Config {
    pub http: HttpConfig,
    pub tls: TlsConfig,
    pub history: HistoryConfig,
    pub archive: ArchiveConfig,
    pub runs: RunsConfig,
    pub restore: RestoreConfig,
    pub cors: CorsConfig,
    pub auth: AuthConfig,
    pub redis: RedisConfig,
    pub admin: AdminConfig,
    pub telemetry: TelemetryConfig,
}

/// `[http]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml explains each option")]
pub struct HttpConfig {
    pub listen: String,
    pub max_connections: usize,
    #[serde(with = "runcast_runtime::duration")]
    pub header_timeout: Duration,
    #[serde(with = "runcast_runtime::duration")]
    pub write_stall: Duration,
    pub max_connections_per_client: usize,
    pub requests_per_second_per_client: u32,
    pub request_burst_per_client: NonZeroU32,
    pub trusted_proxies: String,
    pub client_header: ClientHeader,
    #[serde(with = "runcast_runtime::duration")]
    pub drain: Duration,
}

/// `[history]`
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml explains each option")]
pub struct HistoryConfig {
    pub page: usize,
    pub max_page: usize,
    pub max_scan: usize,
}

/// `[archive]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml explains each option")]
pub struct ArchiveConfig {
    pub url: String,
    pub segment_bytes: ByteSize,
    #[serde(with = "runcast_runtime::duration")]
    pub segment_age: Duration,
    #[serde(with = "runcast_runtime::duration")]
    pub interval: Duration,
    #[serde(with = "runcast_runtime::duration")]
    pub protect: Duration,
    #[serde(with = "runcast_runtime::duration::option")]
    pub release: Option<Duration>,
    #[serde(with = "runcast_runtime::duration::option")]
    pub retention: Option<Duration>,
}

/// `[runs]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml explains each option")]
pub struct RunsConfig {
    #[serde(with = "runcast_runtime::duration")]
    pub interval: Duration,
}

/// `[restore]`
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml explains each option")]
pub struct RestoreConfig {
    pub concurrency: NonZeroUsize,
    pub memory: ByteSize,
    #[serde(with = "runcast_runtime::duration")]
    pub ttl: Duration,
}

/// `[cors]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml explains each option")]
pub struct CorsConfig {
    pub origins: String,
}

impl Config {
    /// The defaults, changed by a file and by the environment.
    ///
    /// # Errors
    /// [`ConfigError`] naming the key, its value and the fix.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        runcast_runtime::config::load(DEFAULTS, file, &[])
    }
}
