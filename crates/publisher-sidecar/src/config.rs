//! The sidecar's configuration; `default.toml` explains each option.

use std::fmt::Display;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;
use runcast_bus::RedisConfig;
use runcast_protocol::{RunId, State, VariationId};
use runcast_runtime::config::ConfigError;
use runcast_runtime::{AdminConfig, TelemetryConfig};
use serde::{Deserialize, Deserializer, de};

use crate::identity::Identity;
use crate::quota::QuotaConfig;
use crate::redact::RedactConfig;

/// The defaults, with an explanation of each option.
pub const DEFAULTS: &str = include_str!("default.toml");

/// All of the sidecar's configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml explains each option")]
pub struct Config {
    pub run: RunConfig,
    pub redis: RedisConfig,
    pub stream: StreamConfig,
    pub batch: BatchConfig,
    pub quota: QuotaConfig,
    pub queue: QueueConfig,
    pub journal: JournalConfig,
    pub message: MessageConfig,
    pub logs: LogsConfig,
    pub redact: RedactConfig,
    pub api: ApiConfig,
    pub shutdown: ShutdownConfig,
    pub serve: ServeConfig,
    pub exec: ExecConfig,
    pub lease: LeaseConfig,
    pub admin: AdminConfig,
    pub telemetry: TelemetryConfig,
}

/// `[run]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml explains each option")]
pub struct RunConfig {
    #[serde(deserialize_with = "run_id")]
    pub id: RunId,
    #[serde(deserialize_with = "variation_id")]
    pub variation: VariationId,
    pub variations: u32,
}

/// `[stream]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml explains each option")]
pub struct StreamConfig {
    #[serde(with = "runcast_runtime::duration")]
    pub ttl: Duration,
    #[serde(deserialize_with = "at_least_one")]
    pub max_entries: u64,
}

/// `[batch]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml explains each option")]
pub struct BatchConfig {
    #[serde(with = "runcast_runtime::duration")]
    pub linger: Duration,
    #[serde(deserialize_with = "at_least_one")]
    pub max_messages: usize,
    #[serde(deserialize_with = "size::<1024, {4 << 20}, _>")]
    pub max_bytes: ByteSize,
    pub compress_above: ByteSize,
}

/// `[queue]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml explains each option")]
pub struct QueueConfig {
    pub max_bytes: ByteSize,
}

/// `[journal]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml explains each option")]
pub struct JournalConfig {
    #[serde(deserialize_with = "path")]
    pub folder: Option<PathBuf>,
    #[serde(deserialize_with = "size::<{1 << 20}, {1 << 40}, _>")]
    pub max_bytes: ByteSize,
    #[serde(deserialize_with = "size::<{4 << 10}, {1 << 30}, _>")]
    pub segment_bytes: ByteSize,
    pub forget_appended: bool,
}

/// `[message]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml explains each option")]
pub struct MessageConfig {
    // What `exec` reads at once must fit, even if every byte of it is escaped.
    #[serde(deserialize_with = "size::<{512 << 10}, {8 << 20}, _>")]
    pub max_bytes: ByteSize,
}

/// `[logs]`
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml explains each option")]
pub struct LogsConfig {
    pub detect: bool,
    #[serde(with = "runcast_runtime::duration")]
    pub hold: Duration,
}

/// `[api]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml explains each option")]
pub struct ApiConfig {
    #[serde(deserialize_with = "loopback")]
    pub listen: Option<SocketAddr>,
    #[serde(deserialize_with = "path")]
    pub socket: Option<PathBuf>,
}

/// `[shutdown]`
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml explains each option")]
pub struct ShutdownConfig {
    #[serde(with = "runcast_runtime::duration")]
    pub deadline: Duration,
}

/// `[serve]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml explains each option")]
pub struct ServeConfig {
    #[serde(deserialize_with = "unfinished")]
    pub unfinished: Option<State>,
}

/// `[exec]`
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml explains each option")]
pub struct ExecConfig {
    pub input: bool,
    pub api: bool,
}

/// `[lease]`
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml explains each option")]
pub struct LeaseConfig {
    #[serde(deserialize_with = "lease_ttl")]
    pub ttl: Duration,
}

impl Config {
    /// The defaults, changed by a file, by the environment, and by the command line's `overrides`.
    ///
    /// # Errors
    /// [`ConfigError`] naming the key, its value and the fix.
    pub fn load(file: Option<&Path>, overrides: &[(&str, String)]) -> Result<Self, ConfigError> {
        runcast_runtime::config::load(DEFAULTS, file, overrides)
    }

    /// For whom the sidecar speaks.
    pub fn identity(&self) -> Identity {
        Identity { run: self.run.id.clone(), variation: self.run.variation.clone() }
    }
}

impl ShutdownConfig {
    /// How long the agent may take to end once it was told to.
    pub fn agent_grace(&self) -> Duration {
        self.deadline * 4 / 5
    }
}

/// A size as a number of bytes that fits this machine.
pub fn bytes(size: ByteSize) -> usize {
    usize::try_from(size.as_u64()).unwrap_or(usize::MAX)
}

fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    String::deserialize(deserializer)
}

fn run_id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<RunId, D::Error> {
    required(text(deserializer)?, "expected the run's id: give --run ID or set RUNCAST__RUN__ID")
}

fn variation_id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<VariationId, D::Error> {
    required(
        text(deserializer)?,
        "expected the variation's id: give --variation ID or set RUNCAST__RUN__VARIATION",
    )
}

fn required<T: FromStr<Err: Display>, E: de::Error>(text: String, missing: &str) -> Result<T, E> {
    if text.is_empty() { Err(E::custom(missing)) } else { text.parse().map_err(E::custom) }
}

fn at_least_one<'de, D: Deserializer<'de>, T: TryFrom<u64>>(deserializer: D) -> Result<T, D::Error> {
    let number = u64::deserialize(deserializer)?;
    let fitting = T::try_from(number).ok().filter(|_| number > 0);
    fitting.ok_or_else(|| de::Error::custom("expected a number, at least 1"))
}

fn size<'de, const MIN: u64, const MAX: u64, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<ByteSize, D::Error> {
    let size = ByteSize::deserialize(deserializer)?;
    if (MIN..=MAX).contains(&size.as_u64()) {
        return Ok(size);
    }
    let (min, max) = (ByteSize(MIN), ByteSize(MAX));
    Err(de::Error::custom(format_args!("expected a size from {min} to {max}, such as `1MiB`")))
}

/// Without a lease the control-plane would take a running variation for lost.
fn lease_ttl<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let ttl = runcast_runtime::duration::deserialize(deserializer)?;
    let range = Duration::from_millis(300)..=Duration::from_secs(3600);
    if range.contains(&ttl) { Ok(ttl) } else { Err(de::Error::custom("expected 300ms to 1h, such as `10s`")) }
}

fn loopback<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
    let text = text(deserializer)?;
    if text.is_empty() {
        return Ok(None);
    }
    let address: SocketAddr = text
        .parse()
        .map_err(|_| de::Error::custom("expected address:port, such as `127.0.0.1:7780`, or nothing"))?;
    if address.ip().is_loopback() {
        return Ok(Some(address));
    }
    // Whoever reaches the API speaks in the agent's name; it asks for no credentials.
    Err(de::Error::custom(
        "expected a loopback address, such as `127.0.0.1:7780`: the API is for this pod only",
    ))
}

fn path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PathBuf>, D::Error> {
    Ok(Some(text(deserializer)?).filter(|path| !path.is_empty()).map(PathBuf::from))
}

fn unfinished<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<State>, D::Error> {
    match text(deserializer)?.as_str() {
        "none" => Ok(None),
        "lost" => Ok(Some(State::Lost)),
        "succeeded" => Ok(Some(State::Succeeded)),
        "failed" => Ok(Some(State::Failed)),
        _ => Err(de::Error::custom("expected lost, succeeded, failed or none")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(overrides: &[(&str, &str)]) -> Result<Config, String> {
        let ids = [("run.id", "run-1"), ("run.variation", "var-1")];
        let all: Vec<_> = ids.iter().chain(overrides).map(|&(key, value)| (key, value.to_owned())).collect();
        runcast_runtime::config::load_from(DEFAULTS, None, [], &all).map_err(|error| error.to_string())
    }

    #[test]
    fn the_defaults_are_valid_but_for_the_ids() {
        let config = load(&[]).unwrap();
        assert_eq!(config.serve.unfinished, Some(State::Lost));
        assert_eq!(bytes(config.batch.max_bytes), 256 << 10);
        assert_eq!(config.logs.hold, Duration::from_millis(50));
    }

    #[test]
    fn an_error_names_key_value_and_fix() {
        for (key, value, fix) in [
            ("run.id", "", "--run ID"),
            ("run.variation", "a b", "use 1 to 128 of A-Z"),
            ("api.listen", "0.0.0.0:7780", "loopback"),
            ("api.listen", "localhost", "address:port"),
            ("batch.max_messages", "0", "at least 1"),
            ("message.max_bytes", "1GiB", "8.0 MiB"),
            ("journal.max_bytes", "100KiB", "1.0 MiB"),
            ("serve.unfinished", "maybe", "lost, succeeded"),
            ("redis.timeout_ms", "0", "at least 1"),
            ("lease.ttl", "0s", "300ms to 1h"),
            ("redact.hold", "2", "such as"),
        ] {
            let error = load(&[(key, value)]).unwrap_err();
            assert!(
                error.contains(key) && error.contains(fix) && error.contains(&format!("`{value}`")),
                "{error}"
            );
        }
    }
}
