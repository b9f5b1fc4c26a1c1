//! Each alert of the chart, fired by the fault that it is for: real services, a real Redis, a real Prometheus with the
//! chart's rules, in which a minute is a second. `make alert-faults`.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "it reports to whoever runs it, and stops at what it did not expect"
)]

mod prometheus;
mod redis_faults;
mod service_faults;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use runcast_testkit::{Process, Sidecar, free_port};

/// The port of an address.
fn port(url: &str) -> u16 {
    url.rsplit(':').next().unwrap().trim_end_matches('/').parse().unwrap()
}

/// A sidecar in a run `r`, and its admin port.
fn sidecar(redis: &str, journal: Option<&Path>) -> (Sidecar, u16) {
    sidecar_of("v", redis, journal)
}

/// That of a variation.
fn sidecar_of(variation: &str, redis: &str, journal: Option<&Path>) -> (Sidecar, u16) {
    let admin = free_port();
    let mut sidecar =
        Sidecar::new(redis, "r", variation).set("RUNCAST__ADMIN__LISTEN", format!("127.0.0.1:{admin}"));
    if let Some(folder) = journal {
        sidecar = sidecar.set("RUNCAST__JOURNAL__FOLDER", folder.join("journal").display());
    }
    (sidecar, admin)
}

/// An agent that says a line again and again, until its sidecar is gone.
fn talk(sidecar: &Sidecar, line: String, every: Duration) -> Process {
    let mut process = sidecar.pipe();
    let mut stdin = process.child().stdin.take().unwrap();
    std::thread::spawn(move || {
        while stdin.write_all(line.as_bytes()).is_ok() {
            std::thread::sleep(every);
        }
    });
    process
}

/// The alerts that there are.
fn all() -> BTreeSet<String> {
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../charts/runcast/rules");
    let texts = std::fs::read_dir(rules)
        .unwrap()
        .map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap());
    let texts: Vec<_> = texts.collect();
    let lines = texts.iter().flat_map(|text| text.lines());
    lines.filter_map(|line| Some(line.trim().strip_prefix("- alert: ")?.to_owned())).collect()
}

#[tokio::main]
async fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let mut untold = all();
    let mut silent = Vec::new();
    macro_rules! scenes {
        ($($module:ident :: $scene:ident: $alerts:expr,)*) => {$(
            let alerts: &[&str] = &$alerts;
            if wanted.is_empty() || wanted.iter().any(|wanted| stringify!($scene).contains(wanted.as_str())) {
                println!("-- {}", stringify!($scene).replace('_', " "));
                silent.extend(Box::pin($module::$scene(alerts)).await);
            }
            untold.retain(|alert| !alerts.contains(&alert.as_str()));
        )*};
    }
    scenes! {
        redis_faults::redis_freezes: ["RuncastRedisUnreachable", "RuncastRedisConnectionsFail", "RuncastJournalOld", "RuncastBreakerOpen"],
        redis_faults::redis_freezes_and_agents_talk_on: ["RuncastJournalFills", "RuncastMessagesDropped"],
        redis_faults::redis_stutters: ["RuncastLate", "RuncastCallsSlow"],
        redis_faults::redis_is_full: ["RuncastRedisMemory", "RuncastRedisEvicts"],
        redis_faults::redis_forgets: ["RuncastMessagesLost"],
        redis_faults::a_replica_dies: ["RuncastRedisReplicaMissing"],
        redis_faults::users_are_deleted: ["RuncastUsersMended"],
        redis_faults::a_stranger_publishes: ["RuncastMalformedPayloads"],
        redis_faults::a_stream_is_trimmed_before_it_was_read: ["RuncastMessagesGone"],
        redis_faults::a_stream_is_trimmed_before_it_was_archived: ["RuncastArchiveGaps"],
        service_faults::a_sidecar_is_frozen_for_too_long: ["RuncastLeasesLapse"],
        service_faults::a_sidecar_is_killed: ["RuncastRunsLost"],
        service_faults::nobody_takes_a_command: ["RuncastCommandsExpire"],
        service_faults::a_message_is_too_large: ["RuncastDeadLetters"],
        service_faults::one_client_connects_too_often: ["RuncastViewersRefused"],
        service_faults::the_archive_cannot_be_written: ["RuncastArchiveFails", "RuncastArchiveLags"],
        service_faults::a_service_does_not_end: ["RuncastNotReady"],
        service_faults::services_are_gone: ["RuncastServiceGone", "RuncastAbsent"],
    }
    assert!(untold.is_empty(), "nobody makes these fire: {untold:?}");
    if silent.is_empty() {
        println!("every alert fired by its fault, and none before");
        return ExitCode::SUCCESS;
    }
    println!("silent: {silent:?}");
    ExitCode::FAILURE
}
