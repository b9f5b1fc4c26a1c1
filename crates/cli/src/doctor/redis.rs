//! Checks of Redis.

use std::time::Instant;

use runcast_bus::{Bus, BusError, RedisConfig};

use crate::doctor::report::{Report, rounded};
use crate::doctor::round_trip::RoundTrip;

/// The oldest Redis whose scripts and RESP3 do what we need.
const OLDEST: (u32, u32) = (7, 0);

/// Checks a Redis; the round trip, if it can be made, to go on with through the fan-out.
///
/// # Errors
/// If the report cannot be written.
pub(crate) async fn check(report: &mut Report, url: &str) -> anyhow::Result<Option<RoundTrip>> {
    let bus = match Bus::connect(&RedisConfig::new(url)) {
        Ok(bus) => bus,
        Err(error) => {
            report.bad(&error.to_string(), "correct --redis or RUNCAST__REDIS__URL")?;
            return Ok(None);
        }
    };
    let begun = Instant::now();
    let info = match bus.server_info().await {
        Ok(info) => info,
        Err(error) => {
            let mend = match error {
                BusError::Rejected(_) => "check user, password and permissions (ACL) in --redis",
                BusError::Refused(_) => "wait until it is up; if it stays so, look into its log",
                _ => "start one, e.g. `runcast dev`, or say where it is with --redis or RUNCAST__REDIS__URL",
            };
            report.bad(&error.to_string(), mend)?;
            return Ok(None);
        }
    };
    report.good(&format!("answers; connected within {:?}", rounded(begun.elapsed())))?;

    let field = |name: &str| info.get(name).map_or("", String::as_str);
    let version = field("redis_version");
    let mut numbers = version.split('.').map(|part| part.parse().unwrap_or(0));
    if (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= OLDEST {
        report.good(&match field("valkey_version") {
            "" => format!("version {version}"),
            valkey => format!("Valkey {valkey}, compatible with Redis {version}"),
        })?;
    } else {
        report.bad(&format!("version {version} is too old"), "use Redis 7.0 or later, or Valkey")?;
    }
    match (field("maxmemory"), field("maxmemory_policy")) {
        ("" | "0", _) => report.good("keeps everything until it expires (no maxmemory)")?,
        (_, "noeviction") => {
            report.good("refuses writes rather than forget when memory is full (noeviction)")?;
        }
        (_, policy) => report.hint(
            &format!(
                "forgets streams when memory is full (maxmemory-policy {policy}): viewers would get gaps"
            ),
            "set maxmemory-policy noeviction, and let the sidecars wait",
        )?,
    }
    if field("aof_enabled") == "1" {
        report.good("keeps what it was told across a restart (appendonly)")?;
    } else {
        report.hint(
            "forgets everything when it restarts (appendonly no)",
            "in production, set appendonly yes",
        )?;
    }

    match RoundTrip::begin(bus).await {
        Ok(mut round_trip) => match round_trip.through_redis().await {
            Ok(latency) => {
                report.good(&format!("append, publish, receive: {:?} (median)", rounded(latency)))?;
                Ok(Some(round_trip))
            }
            Err(error) => {
                report.bad(&format!("{error:#}"), "see that the user may PUBLISH and SUBSCRIBE to run:*")?;
                Ok(Some(round_trip))
            }
        },
        Err(error) => {
            report.bad(
                &format!("cannot append: {error:#}"),
                "see that the user may run scripts (EVAL, EVALSHA) on run:*",
            )?;
            Ok(None)
        }
    }
}
