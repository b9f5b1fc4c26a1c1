//! The fan-out's configuration; `default.toml` explains each option.

use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use bytesize::ByteSize;
use runcast_auth::AuthConfig;
use runcast_bus::RedisConfig;
use runcast_runtime::config::ConfigError;
use runcast_runtime::http::{ClientHeader, TlsConfig};
use runcast_runtime::{AdminConfig, TelemetryConfig};
use serde::{Deserialize, Deserializer, de};

use crate::ring::RingLimits;

/// The defaults, with an explanation of each option.
pub const DEFAULTS: &str = include_str!("default.toml");

/// All of the fan-out's configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml explains each option")]
pub struct Config {
    pub http: HttpConfig,
    pub tls: TlsConfig,
    pub sse: SseConfig,
    pub cors: CorsConfig,
    pub page: PageConfig,
    pub view: ViewConfig,
    pub feed: FeedConfig,
    pub catch_up: CatchUpConfig,
    pub past: PastConfig,
    pub drain: DrainConfig,
    pub auth: AuthConfig,
    pub auth_limits: AuthLimitsConfig,
    pub tickets: TicketsConfig,
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
    pub http2: bool,
    pub max_streams: u32,
    #[serde(with = "runcast_runtime::duration")]
    pub keepalive: Duration,
    pub send_buffer: ByteSize,
}

/// `[sse]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml explains each option")]
pub struct SseConfig {
    #[serde(with = "runcast_runtime::duration")]
    pub heartbeat: Duration,
    #[serde(with = "runcast_runtime::duration")]
    pub retry: Duration,
    #[serde(with = "runcast_runtime::duration")]
    pub open_wait: Duration,
    pub snapshot_bytes: ByteSize,
    pub compression: String,
}

/// `[cors]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml explains each option")]
pub struct CorsConfig {
    pub origins: String,
}

/// `[page]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml explains each option")]
pub struct PageConfig {
    #[serde(deserialize_with = "origin")]
    pub control_url: String,
    #[serde(deserialize_with = "origin")]
    pub replay_url: String,
}

/// `[view]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml explains each option")]
pub struct ViewConfig {
    pub ring_frames: usize,
    pub ring_bytes: ByteSize,
}

impl ViewConfig {
    /// How much a view's ring holds.
    pub fn ring(&self) -> RingLimits {
        RingLimits { frames: self.ring_frames, bytes: bytes(self.ring_bytes) }
    }
}

/// `[feed]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml explains each option")]
pub struct FeedConfig {
    #[serde(with = "runcast_runtime::duration")]
    pub check_interval: Duration,
    #[serde(with = "runcast_runtime::duration")]
    pub linger: Duration,
    pub inbox: usize,
}

/// `[catch_up]`
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml explains each option")]
pub struct CatchUpConfig {
    pub reads: usize,
    pub viewers: usize,
    pub cache_bytes: ByteSize,
    #[serde(with = "runcast_runtime::duration")]
    pub cache_ttl: Duration,
}

/// `[past]`
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml explains each option")]
pub struct PastConfig {
    #[serde(with = "runcast_runtime::duration")]
    pub wait: Duration,
}

/// `[drain]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml explains each option")]
pub struct DrainConfig {
    #[serde(with = "runcast_runtime::duration")]
    pub time: Duration,
}

/// `[auth_limits]`
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml explains each option")]
pub struct AuthLimitsConfig {
    pub max_streams_per_holder: usize,
}

/// `[tickets]`
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml explains each option")]
pub struct TicketsConfig {
    #[serde(with = "runcast_runtime::duration")]
    pub life: Duration,
    pub per_second: NonZeroU32,
    pub burst: NonZeroU32,
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

/// It stands in the page and in its content security policy, so it is an origin and nothing else.
fn origin<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let fits = |host: &str| {
        !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:[]".contains(&b))
    };
    if text.is_empty() || host.is_some_and(fits) {
        return Ok(text);
    }
    Err(de::Error::custom("expected an address without a path, such as `https://control.example.com`"))
}

/// A size as a number of bytes that fits this machine.
pub fn bytes(size: ByteSize) -> usize {
    usize::try_from(size.as_u64()).unwrap_or(usize::MAX)
}
