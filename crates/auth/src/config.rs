//! `[auth]`

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use runcast_runtime::rates::Rate;
use serde::Deserialize;

/// `[auth]`; each service's `default.toml` explains the options.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml explains each option")]
pub struct AuthConfig {
    pub mode: Mode,
    pub secret_file: PathBuf,
    pub public_key_file: PathBuf,
    pub jwks_file: PathBuf,
    pub jwks_url: String,
    #[serde(with = "runcast_runtime::duration")]
    pub jwks_interval: Duration,
    pub issuer: String,
    pub audience: String,
    #[serde(with = "runcast_runtime::duration")]
    pub leeway: Duration,
    pub max_token: ByteSize,
    pub cookie: String,
    pub requests_per_second_per_holder: u32,
    pub request_burst_per_holder: NonZeroU32,
}

impl AuthConfig {
    /// How often one holder of tokens may come.
    pub(crate) fn rate(&self) -> Rate {
        Rate { per_second: self.requests_per_second_per_holder, burst: self.request_burst_per_holder }
    }
}

/// Whether tokens are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Nobody said: off on loopback, and nowhere else.
    #[serde(rename = "")]
    Unset,
    /// Whoever comes may do everything.
    Off,
    /// Tokens are asked for.
    Jwt,
}
