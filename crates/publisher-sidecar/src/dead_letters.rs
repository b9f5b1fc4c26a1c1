//! What can never be stored: put where people can look at it, with the reason.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use runcast_bus::{Bus, BusError, DeadLetter, Limits};
use runcast_protocol::{Json, Lane, RunId, Sequence, timestamp};
use serde::Serialize;

use crate::gate::Gate;
use crate::metrics::Metrics;

/// The file beside the journal for what Redis will not even have as a dead letter.
const FILE: &str = "dead-letters.ndjson";

/// Attempts to reach Redis with one if there is the file as well.
const ATTEMPTS: u32 = 3;

/// Pause between attempts.
const PAUSE: Duration = Duration::from_millis(500);

/// Error codes with which Redis speaks of us or of itself, never of one message.
const NOT_OF_THE_MESSAGE: [&str; 9] = [
    "NOAUTH",
    "WRONGPASS",
    "NOPERM",
    "WRONGTYPE",
    "NOSCRIPT",
    "NOPROTO",
    "CROSSSLOT",
    "ERR unknown",
    "ERR The ID specified",
];

/// Whether Redis would refuse the same message again, and would take another one.
pub(crate) fn is_about_the_message(error: &BusError) -> bool {
    matches!(error, BusError::Rejected(why) if !NOT_OF_THE_MESSAGE.iter().any(|code| why.starts_with(code)))
}

/// Where dead letters go.
#[derive(Debug)]
pub(crate) struct DeadLetters {
    pub(crate) run: RunId,
    pub(crate) bus: Bus,
    pub(crate) gate: Gate,
    pub(crate) limits: Limits,
    /// The journal's folder.
    pub(crate) folder: Option<PathBuf>,
    pub(crate) metrics: Metrics,
}

impl DeadLetters {
    /// Puts a message away for good.
    pub(crate) async fn bury(&self, reason: &str, lane: &Lane, sequence: Option<Sequence>, original: Bytes) {
        self.metrics.dead(lane.channel);
        let letter = DeadLetter {
            reason: reason.to_owned(),
            time: timestamp::now(),
            lane: lane.clone(),
            sequence,
            original,
        };
        let mut told = None;
        // Without a file, Redis is the only place: a Redis that is away is waited for.
        let attempts = if self.folder.is_some() { ATTEMPTS } else { u32::MAX };
        for _ in 0..attempts {
            let leave = self.gate.pass().await;
            match self.bus.bury(&self.run, &letter, self.limits).await {
                Ok(id) => {
                    leave.succeeded();
                    tracing::error!(%lane, ?sequence, reason, %id, "a message can never be stored; it is a dead letter now");
                    return;
                }
                Err(error) if error.is_transient() => {
                    leave.failed();
                    told = Some(error);
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => {
                    leave.succeeded();
                    told = Some(error);
                    break;
                }
            }
        }
        let refusal = told.map(|error| error.to_string()).unwrap_or_default();
        match self.folder.as_deref().map(|folder| write(folder, &letter)) {
            Some(Ok(path)) => {
                tracing::error!(%lane, ?sequence, reason, refusal, path = %path.display(), "a message can never be stored, not even as a dead letter in redis; it is in the file");
            }
            Some(Err(error)) => {
                tracing::error!(%lane, ?sequence, reason, refusal, %error, "a message can never be stored and is lost: the dead-letter file cannot be written");
            }
            None => {
                tracing::error!(%lane, ?sequence, reason, refusal, "a message can never be stored and is lost: without journal.folder there is no dead-letter file");
            }
        }
    }
}

/// A line of the file.
#[derive(Serialize)]
struct Line<'a> {
    reason: &'a str,
    time: timestamp::Text,
    lane: &'a Lane,
    sequence: Option<Sequence>,
    /// As it was, to the letter; a string of what is not JSON.
    original: Json,
}

/// Adds a line to the file.
fn write(folder: &Path, letter: &DeadLetter) -> std::io::Result<PathBuf> {
    let path = folder.join(FILE);
    let original = String::from_utf8_lossy(&letter.original);
    let original = Json::parse(&original).unwrap_or_else(|_| Json::string(&original));
    let (time, reason) = (timestamp::Text(letter.time), letter.reason.as_str());
    let line = Line { reason, time, lane: &letter.lane, sequence: letter.sequence, original };
    let mut line = serde_json::to_vec(&line)?;
    line.push(b'\n');
    // The folder may be shared with the agent's container: a link there must not lead us elsewhere.
    let flags = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).map_err(std::io::Error::other)?;
    let mut file =
        OpenOptions::new().append(true).create(true).mode(0o600).custom_flags(flags).open(&path)?;
    file.write_all(&line)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_wrong_with_us_is_not_the_messages_fault() {
        let rejected = |why: &str| is_about_the_message(&BusError::Rejected(why.into()));
        assert!(rejected("ERR Protocol error: invalid bulk length"));
        assert!(rejected("ERR string exceeds maximum allowed size (proto-max-bulk-len)"));
        for why in [
            "NOAUTH Authentication required.",
            "NOPERM no permission",
            "WRONGTYPE Operation against",
            "ERR unknown command 'EVALSHA'",
        ] {
            assert!(!rejected(why), "{why}");
        }
        assert!(!is_about_the_message(&BusError::Unreachable("gone".into())));
    }

    #[test]
    fn the_file_is_private_and_has_a_line_for_each() {
        let folder = tempfile::tempdir().unwrap();
        let letter = |original: &'static str| DeadLetter {
            reason: "too large".into(),
            time: timestamp::now(),
            lane: "output/a".parse().unwrap(),
            sequence: None,
            original: original.into(),
        };
        write(folder.path(), &letter("{\"b\":1.10,\"a\":18446744073709551617}")).unwrap();
        let path = write(folder.path(), &letter("no JSON")).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let text = std::fs::read_to_string(path).unwrap();
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines[1]["original"], json!("no JSON"));
        assert!(text.contains(r#""original":{"b":1.10,"a":18446744073709551617}}"#), "{text}");
        assert_eq!(lines[0]["lane"], "output/a");
        let elsewhere = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(folder.path().join(FILE), elsewhere.path().join(FILE)).unwrap();
        assert!(write(elsewhere.path(), &letter("7")).is_err(), "a link is not followed");
    }
}
