//! Checks of the fan-out.

use std::net::IpAddr;
use std::time::Duration;

use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use runcast_protocol::RunId;
use serde::Deserialize;

use crate::doctor::report::{Report, rounded};
use crate::doctor::round_trip::RoundTrip;
use crate::server::Server;

/// The fan-out's admin port unless it is configured otherwise.
const ADMIN_PORT: u16 = 9090;

/// Who has been handed nothing for so long is worth a word.
const LATE: Duration = Duration::from_secs(5);

/// What `/debug/viewers` says.
#[derive(Debug, Deserialize)]
struct Viewers {
    viewers: usize,
    behind: usize,
    worst: Vec<Row>,
}

#[derive(Debug, Deserialize)]
struct Row {
    id: u64,
    run_id: RunId,
    client: Option<IpAddr>,
    transport: String,
    state: String,
    lag: u64,
    waiting_seconds: f64,
}

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
                return Ok(());
            }
        }
    }
    check_viewers(report, &admin).await
}

/// Tells of the viewers that are furthest behind.
async fn check_viewers(report: &mut Report, admin: &Server) -> anyhow::Result<()> {
    let seen = match admin.get("/debug/viewers?limit=3", &[]).await {
        Ok(answer) if answer.status == 200 => answer.json::<Viewers>().await,
        // An older one has no such page.
        _ => return Ok(()),
    };
    let Viewers { viewers, behind, worst } = match seen {
        Ok(seen) => seen,
        Err(error) => return Ok(report.bad(&format!("{admin}/debug/viewers: {error:#}"), "see its log")?),
    };
    let late: Vec<_> = worst.iter().filter(|viewer| viewer.waiting_seconds >= LATE.as_secs_f64()).collect();
    if late.is_empty() {
        return Ok(report.good(&format!("viewers: {viewers}, of whom {behind} have not got everything yet"))?);
    }
    for viewer in late {
        let Row { id, run_id, client, transport, state, lag, waiting_seconds } = viewer;
        let from = client.map(|client| format!(" from {client}")).unwrap_or_default();
        let what = format!(
            "viewer {id} of {run_id}{from} ({transport}): {state}, {lag} behind for {waiting_seconds:.0} s"
        );
        let mend = if state == "slow" {
            "its network or page takes too little; it costs nobody else anything"
        } else {
            "see that Redis answers; docs/scaling.md says how many can catch up at a time"
        };
        report.hint(&what, mend)?;
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
