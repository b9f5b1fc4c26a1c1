//! The control-plane's configuration; `default.toml` explains each option.

use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use bytesize::ByteSize;
use runcast_auth::AuthConfig;
use runcast_bus::{Limits, RedisConfig};
use runcast_protocol::RunId;
use runcast_runtime::config::ConfigError;
use runcast_runtime::http::{ClientHeader, TlsConfig};
use runcast_runtime::{AdminConfig, TelemetryConfig};
use serde::Deserialize;

/// The defaults, with an explanation of each option.
pub const DEFAULTS: &str = include_str!("default.toml");

/// All of the control-plane's configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml explains each option")]
pub struct Config {
    pub grpc: GrpcConfig,
    pub tls: TlsConfig,
    pub cors: CorsConfig,
    pub limits: LimitsConfig,
    pub quotas: QuotasConfig,
    pub lease: LeaseConfig,
    pub runs: RunsConfig,
    pub retention: RetentionConfig,
    pub stream: StreamConfig,
    pub auth: AuthConfig,
    pub acl: AclConfig,
    pub servers: ServersConfig,
    pub redis: RedisConfig,
    pub admin: AdminConfig,
    pub telemetry: TelemetryConfig,
}

/// `[grpc]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml explains each option")]
pub struct GrpcConfig {
    pub listen: String,
    pub max_message: ByteSize,
    #[serde(with = "runcast_runtime::duration")]
    pub request_timeout: Duration,
    pub max_connections: usize,
    pub max_connections_per_client: usize,
    pub trusted_proxies: String,
    pub client_header: ClientHeader,
    pub max_streams: u32,
    #[serde(with = "runcast_runtime::duration")]
    pub keepalive: Duration,
    #[serde(with = "runcast_runtime::duration")]
    pub idle: Duration,
    pub reflection: bool,
}

/// `[cors]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml explains each option")]
pub struct CorsConfig {
    pub origins: String,
}

/// `[limits]`
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml explains each option")]
pub struct LimitsConfig {
    pub calls_per_second: u32,
    pub burst: NonZeroU32,
}

/// `[quotas]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml explains each option")]
pub struct QuotasConfig {
    #[serde(with = "runcast_runtime::duration")]
    pub interval: Duration,
    pub run_messages_per_second: u64,
    pub run_memory: ByteSize,
    pub tenants: String,
    pub tenant_messages_per_second: u64,
    pub tenant_memory: ByteSize,
    #[serde(with = "runcast_runtime::duration")]
    pub patience: Duration,
    pub revoke: bool,
}

impl QuotasConfig {
    /// The messages in a second and the bytes that a run may have; zero: as many as it likes.
    pub(crate) fn of_run(&self) -> (u64, u64) {
        (self.run_messages_per_second, self.run_memory.as_u64())
    }

    /// The same of all runs of a tenant.
    pub(crate) fn of_tenant(&self) -> (u64, u64) {
        (self.tenant_messages_per_second, self.tenant_memory.as_u64())
    }

    /// The tenant that a run belongs to: the longest beginning of its id that is one.
    pub(crate) fn tenant(&self, run: &RunId) -> Option<&str> {
        let tenants = self.tenants.split(',').map(str::trim).filter(|tenant| !tenant.is_empty());
        tenants.filter(|tenant| run.as_str().starts_with(tenant)).max_by_key(|tenant| tenant.len())
    }

    pub(crate) fn are_there(&self) -> bool {
        (self.of_run(), self.of_tenant()) != ((0, 0), (0, 0))
    }

    /// Whether bytes matter.
    pub(crate) fn weighs(&self) -> bool {
        self.of_run().1 > 0 || self.of_tenant().1 > 0
    }
}

/// `[lease]`
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml explains each option")]
pub struct LeaseConfig {
    #[serde(with = "runcast_runtime::duration")]
    pub grace: Duration,
}

/// `[runs]`
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml explains each option")]
pub struct RunsConfig {
    #[serde(with = "runcast_runtime::duration")]
    pub discover_interval: Duration,
}

/// `[retention]`
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml explains each option")]
pub struct RetentionConfig {
    #[serde(with = "runcast_runtime::duration")]
    pub ended: Duration,
    #[serde(with = "runcast_runtime::duration")]
    pub feed: Duration,
}

/// `[stream]`
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml explains each option")]
pub struct StreamConfig {
    #[serde(with = "runcast_runtime::duration")]
    pub ttl: Duration,
    pub max_entries: u64,
}

/// `[acl]`
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml explains each option")]
pub struct AclConfig {
    pub manage: bool,
    #[serde(with = "runcast_runtime::duration")]
    pub interval: Duration,
    #[serde(with = "runcast_runtime::duration")]
    pub lifetime: Duration,
    #[serde(with = "runcast_runtime::duration")]
    pub overlap: Duration,
    #[serde(with = "runcast_runtime::duration")]
    pub grace: Duration,
}

/// `[servers]`
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml explains each option")]
pub struct ServersConfig {
    #[serde(with = "runcast_runtime::duration")]
    pub interval: Duration,
}

impl StreamConfig {
    /// What a run's streams keep.
    pub fn limits(self) -> Limits {
        Limits { ttl: self.ttl, entries: self.max_entries.max(1) }
    }
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
