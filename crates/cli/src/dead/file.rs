//! The file beside a sidecar's journal: what Redis will not have even as a dead letter.

use std::path::Path;

use anyhow::Context;
use jiff::Timestamp;
use runcast_bus::DeadLetter;
use runcast_protocol::{Json, Lane, Sequence};
use serde::Deserialize;

/// A line of it.
#[derive(Deserialize)]
struct Line {
    reason: String,
    time: Timestamp,
    lane: Lane,
    sequence: Option<Sequence>,
    original: Json,
}

/// All its letters with their lines' numbers.
///
/// # Errors
/// If it cannot be read, or a line is none.
pub(crate) fn read(path: &Path) -> anyhow::Result<Vec<(usize, DeadLetter)>> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {shown}"))?;
    let lines = text.lines().zip(1..).map(|(line, number)| {
        let line: Line = serde_json::from_str(line)
            .with_context(|| format!("line {number} of {shown} is no dead letter"))?;
        let Line { reason, time, lane, sequence, original } = line;
        // What was not JSON stands there as a string; a message never is one.
        let original = original.to_text().unwrap_or_else(|| original.as_str().to_owned());
        Ok((number, DeadLetter { reason, time, lane, sequence, original: original.into() }))
    });
    lines.collect()
}
