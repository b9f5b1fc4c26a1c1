//! How to reach Redis.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use fred::prelude::{Builder, Config, ReconnectPolicy};
use fred::types::RespVersion;
use fred::types::config::{
    ConnectionConfig, PerformanceConfig, ReconnectError, TcpConfig, TlsConfig, UnresponsiveConfig,
};
use runcast_protocol::Secret;
use serde::Deserialize;

use crate::password_file::PasswordFile;
use crate::{BusError, tls};

/// How to reach Redis; the topology is in the address.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedisConfig {
    /// `redis://[user:password@]host:port`, `redis-sentinel://host:port?node=host:port&sentinelServiceName=name`
    /// or `redis-cluster://host:port?node=host:port`; `rediss…` for TLS.
    pub url: String,
    /// ACL user and password, where they are not to stand in the address. Empty: as the address says.
    pub username: String,
    /// See [`RedisConfig::username`].
    pub password: Secret,
    /// File with the password instead, read again at each connection, so that it can change. Empty: none.
    pub password_file: String,
    /// With TLS: PEM file of the authorities to trust. Empty: the system's.
    pub ca_file: String,
    /// With TLS, for servers that ask for it: PEM file of our certificate and those up to the authority, and of its
    /// key. Both empty: none.
    pub cert_file: String,
    /// See [`RedisConfig::cert_file`].
    pub key_file: String,
    /// Connections that commands are spread over.
    pub connections: usize,
    /// How long a connection attempt, or one command, may take.
    #[serde(with = "millis")]
    pub timeout_ms: Duration,
}

impl fmt::Debug for RedisConfig {
    /// Without passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("RedisConfig");
        shown
            .field("url", &redacted(&self.url))
            .field("username", &self.username)
            .field("password_file", &self.password_file)
            .field("ca_file", &self.ca_file)
            .field("cert_file", &self.cert_file);
        shown
            .field("connections", &self.connections)
            .field("timeout", &self.timeout_ms)
            .finish_non_exhaustive()
    }
}

/// Deliveries that may wait between the socket and the router: a burst beyond that is dropped by
/// the client library and told as missed. The library's default of 32 drops most of any load.
const DELIVERIES: usize = 65_536;

/// What an address begins with, before `-cluster` or `-sentinel`.
const SCHEMES: [&str; 4] = ["redis", "rediss", "valkey", "valkeys"];

impl RedisConfig {
    /// A configuration with the defaults, for tests and tools.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            username: String::new(),
            password: Secret::default(),
            password_file: String::new(),
            ca_file: String::new(),
            cert_file: String::new(),
            key_file: String::new(),
            connections: 2,
            timeout_ms: Duration::from_secs(2),
        }
    }

    pub(crate) fn is_tls(&self) -> bool {
        self.url.starts_with("rediss") || self.url.starts_with("valkeys")
    }

    pub(crate) fn builder(&self) -> Result<Builder, BusError> {
        let (scheme, _) = self.url.split_once("://").unwrap_or_default();
        // The client library would speak to anything.
        if !SCHEMES.contains(&scheme.trim_end_matches("-cluster").trim_end_matches("-sentinel")) {
            return Err(BusError::Config(format!(
                "redis.url {:?}: begin it with redis:// or, for TLS, rediss://; \
                 for several servers with redis-sentinel://, rediss-sentinel://, redis-cluster:// or rediss-cluster://",
                redacted(&self.url),
            )));
        }
        let mut config = Config::from_url(&self.url).map_err(|error| {
            let example = "redis://host:6379";
            BusError::Config(format!(
                "redis.url {:?}: {}; use e.g. {example}",
                redacted(&self.url),
                error.details()
            ))
        })?;
        config.version = RespVersion::RESP3;
        if !self.username.is_empty() {
            config.username = Some(self.username.clone());
        }
        if !self.password.is_empty() {
            config.password = Some(self.password.expose().to_owned());
        }
        if !self.password_file.is_empty() {
            if !self.password.is_empty() {
                return Err(BusError::Config("set redis.password or redis.password_file, not both".into()));
            }
            let file = PasswordFile::open(config.username.clone(), &self.password_file)?;
            if config.server.is_sentinel() {
                // The client library would show the password to the sentinels, too. So it knows only this one, and
                // is made anew when Redis does not let it in any more: see `Bus` and `Keeper`.
                config.password = Some(file.read()?);
            } else {
                config.credential_provider = Some(Arc::new(file));
            }
        }
        self.secure(&mut config.tls)?;
        // A Redis that is down at start is waited for, like one that goes down later.
        config.fail_fast = false;
        let mut builder = Builder::from_config(config);
        // The client library waits the first delay before the first attempt too. The longest is what a
        // failover may take longer than the promotion itself.
        let mut policy = ReconnectPolicy::new_exponential(0, 10, 500, 2);
        policy.set_jitter(20);
        builder.set_policy(policy);
        builder.with_connection_config(|connection| self.connection(connection));
        builder.with_performance_config(|performance| self.performance(performance));
        Ok(builder)
    }

    /// Sets TLS up as the files say.
    fn secure(&self, tls: &mut Option<TlsConfig>) -> Result<(), BusError> {
        let files =
            [("ca_file", &self.ca_file), ("cert_file", &self.cert_file), ("key_file", &self.key_file)];
        let Some((name, _)) = files.into_iter().find(|(_, file)| !file.is_empty()) else { return Ok(()) };
        let Some(tls) = tls else {
            let scheme = self.url.split(':').next().unwrap_or_default().replacen("redis", "rediss", 1);
            return Err(BusError::Config(format!(
                "redis.{name} is set, but redis.url does not ask for TLS: begin it with {scheme}:"
            )));
        };
        *tls = tls::connector(&self.ca_file, &self.cert_file, &self.key_file)?.into();
        Ok(())
    }

    fn connection(&self, connection: &mut ConnectionConfig) {
        connection.connection_timeout = self.timeout_ms;
        connection.internal_command_timeout = self.timeout_ms;
        // Retrying is ours to do: only the append script knows what a retry means.
        connection.max_command_attempts = 1;
        // Without this a frozen server is never noticed.
        connection.unresponsive =
            UnresponsiveConfig { max_timeout: Some(self.timeout_ms), interval: Duration::from_millis(250) };
        connection.reconnect_on_auth_error = true;
        // What a demoted or cut-off primary says: ask again where the primary is.
        connection.reconnect_errors = vec![
            ReconnectError::ReadOnly,
            ReconnectError::NoReplicas,
            ReconnectError::MasterDown,
            ReconnectError::Loading,
        ];
        connection.tcp = TcpConfig { nodelay: Some(true), ..TcpConfig::default() };
    }

    fn performance(&self, performance: &mut PerformanceConfig) {
        // With 0, the default, a command can hang for ever.
        performance.default_command_timeout = self.timeout_ms;
        performance.broadcast_channel_capacity = 32;
    }

    pub(crate) fn subscriber_builder(&self) -> Result<Builder, BusError> {
        let mut builder = self.builder()?;
        builder.with_performance_config(|performance| performance.broadcast_channel_capacity = DELIVERIES);
        Ok(builder)
    }
}

/// The address without its password, for logs and errors.
pub(crate) fn redacted(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://***@{host}"),
        _ => url.to_owned(),
    }
}

mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, de};

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        match u64::deserialize(deserializer)? {
            0 => Err(de::Error::custom("must be at least 1 millisecond")),
            millis => Ok(Duration::from_millis(millis)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_redis_s_and_a_wrong_one_is_told_without_its_password() {
        for url in
            ["redis://h", "rediss-sentinel://u:p@h:1?node=g:2&sentinelServiceName=m", "valkeys-cluster://h:7"]
        {
            RedisConfig::new(url).builder().map(drop).unwrap();
        }
        for url in
            ["http://u:hidden@h", "h:6379", "", "redis", "redis-unix://u:hidden@/s", "redis://u:hidden@"]
        {
            let error = RedisConfig::new(url).builder().map(drop).unwrap_err().to_string();
            assert!(error.contains("redis.url") && error.contains("redis://"), "{error}");
            assert!(!error.contains("hidden"), "{error}");
        }
        assert!(RedisConfig::new("valkeys://h").is_tls() && !RedisConfig::new("redis-sentinel://h").is_tls());
    }
}
