//! Checks of the fan-out.

use http::header::{CACHE_CONTROL, CONTENT_TYPE};

use crate::doctor::report::{Report, rounded};
use crate::doctor::round_trip::RoundTrip;
use crate::server::Server;

/// The fan-out's admin port unless it is configured otherwise.
const ADMIN_PORT: u16 = 9090;

/// Checks the fan-out's health. An admin port that nobody named may well be out of reach from here.
///
/// # Errors
/// If the report cannot be written.
pub(crate) async fn check_health(
    report: &mut Report,
    fanout: &Server,
    named: Option<Server>,
) -> anyhow::Result<()> {
    const WHERE: &str = "say where it is with --admin (RUNCAST__ADMIN__LISTEN of the fan-out)";
    let is_named = named.is_some();
    let admin = named.unwrap_or_else(|| fanout.with_port(ADMIN_PORT));
    for path in ["/livez", "/readyz"] {
        match admin.get(path, &[]).await {
            Ok(answer) if answer.status == 200 => report.good(&format!("{admin}{path}"))?,
            Ok(answer) if path == "/readyz" && answer.status == 503 => {
                let why = answer.text().await.unwrap_or_default();
                report.bad(&format!("{admin}{path}: {why}"), "the fan-out's log says more")?;
            }
            outcome => {
                let what = match outcome {
                    Ok(answer) => format!("{admin}{path}: {}, so this is no admin port", answer.status),
                    Err(error) => format!("admin port: {error:#}"),
                };
                if is_named { report.bad(&what, WHERE) } else { report.hint(&what, WHERE) }?;
                break;
            }
        }
    }
    Ok(())
}

/// Checks a stream's headers and, if there is a round trip, how long its messages take.
///
/// # Errors
/// If the report cannot be written.
pub(crate) async fn check_stream(
    report: &mut Report,
    fanout: &Server,
    round_trip: Option<RoundTrip>,
) -> anyhow::Result<()> {
    let run = round_trip.as_ref().map_or("doctor", |round_trip| round_trip.run().as_str());
    let path = format!("/v1/runs/{run}/events?channels=output");
    let answer = match fanout.get(&path, &[("accept", "text/event-stream")]).await {
        Ok(answer) if answer.status == 200 => answer,
        Ok(answer) => {
            let what = format!("events: {}", answer.problem().await);
            return Ok(report.bad(&what, "see that --fanout is a Runcast fan-out, or a proxy before one")?);
        }
        Err(error) => {
            let mend = "start it, e.g. `runcast dev`, or say where it is with --fanout or RUNCAST_FANOUT";
            return Ok(report.bad(&format!("{error:#}"), mend)?);
        }
    };
    for (name, expected, why) in [
        (CONTENT_TYPE.as_str(), "text/event-stream", "browsers refuse anything else"),
        (CACHE_CONTROL.as_str(), "no-transform", "without it a proxy that compresses may hold events back"),
        ("x-accel-buffering", "no", "without it nginx holds events back"),
    ] {
        let value = answer.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if value.contains(expected) {
            report.good(&format!("{name}: {value}"))?;
        } else {
            report.bad(
                &format!("{name}: {value:?} lacks {expected}; {why}"),
                "see what the proxy before the fan-out does to headers",
            )?;
        }
    }
    if let Some(round_trip) = round_trip {
        match round_trip.through_fanout(answer).await {
            Ok(latency) => report.good(&format!("append to event: {:?} (median)", rounded(latency)))?,
            Err(error) => report.bad(
                &format!("{error:#}"),
                "see that the fan-out uses the same Redis (its RUNCAST__REDIS__URL), and that no proxy buffers",
            )?,
        }
    }
    Ok(())
}
