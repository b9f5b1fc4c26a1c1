//! `runcast token`: takes tokens back; and the token that we show ourselves.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use runcast_protocol::grpc::control as proto;
use runcast_protocol::grpc::control::revoke_token_request::Expiration;

use crate::control::{ControlPlane, signed};
use crate::send::{duration, proto_duration};

/// Take tokens back.
///
/// Takes a token with the operation `revoke`, in RUNCAST_TOKEN.
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Examples:
  runcast token revoke t-17 --for 24h
  runcast token revoke t-17 --until 2026-01-10T10:30:00Z"
)]
pub(crate) struct TokenOptions {
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    Revoke(RevokeOptions),
}

/// Let nobody in with a token any more, and end what is under way with it.
#[derive(Debug, Args)]
struct RevokeOptions {
    /// The token's name: its claim `jti`.
    #[arg(value_name = "JTI")]
    id: String,
    /// When the token expires, or later: a revocation that is forgotten earlier lets it in again.
    #[arg(long, value_name = "TIME", required_unless_present = "ttl", conflicts_with = "ttl")]
    until: Option<Timestamp>,
    /// The same from now.
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    ttl: Option<Duration>,
}

/// Runs the command.
///
/// # Errors
/// If the control plane cannot be reached, or refuses.
pub(crate) async fn run(options: TokenOptions, url: &str) -> anyhow::Result<ExitCode> {
    let TokenCommand::Revoke(RevokeOptions { id, until, ttl }) = options.command;
    let time = |time: Timestamp| {
        Expiration::ExpireTime(prost_types::Timestamp {
            seconds: time.as_second(),
            nanos: time.subsec_nanosecond(),
        })
    };
    let ttl = ttl.map(|ttl| Expiration::Ttl(proto_duration(ttl)));
    let request = proto::RevokeTokenRequest { token_id: id.clone(), expiration: until.map(time).or(ttl) };
    let plane = ControlPlane::connect(url).await?;
    plane.tokens().revoke_token(signed(request)).await.map_err(|status| plane.refused(&status))?;
    println!("revoked {id}");
    Ok(ExitCode::SUCCESS)
}

/// What we show to services that ask for a token: `RUNCAST_TOKEN` as an `Authorization` header.
pub(crate) fn bearer() -> Option<String> {
    let token = std::env::var("RUNCAST_TOKEN").ok().filter(|token| !token.trim().is_empty())?;
    Some(format!("Bearer {}", token.trim()))
}
