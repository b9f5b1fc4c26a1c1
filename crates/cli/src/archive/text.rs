//! What the archive holds, for people.

use std::fmt::Write;

use jiff::Timestamp;
use runcast_protocol::RunId;
use serde::Deserialize;
use serde_json::Value;

use crate::ago::ago;
use crate::table::Side::{Left, Right};
use crate::table::{size, table};

/// What is archived of a run. Unknown fields are left alone, absent ones are empty.
#[derive(Debug, Deserialize)]
struct Archived {
    run_id: RunId,
    #[serde(default)]
    segments: u64,
    #[serde(default)]
    messages: u64,
    #[serde(default)]
    bytes: u64,
    #[serde(default)]
    raw_bytes: u64,
    #[serde(default)]
    complete: bool,
    #[serde(default)]
    archived_at: Option<Timestamp>,
    /// Why it cannot be read, if it cannot.
    #[serde(default)]
    error: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Segment {
    name: String,
    #[serde(default)]
    bytes: u64,
    #[serde(default)]
    sha256: String,
    #[serde(default)]
    lanes: Value,
}

/// A table of archived runs.
pub(super) fn runs(runs: &[Value]) -> anyhow::Result<String> {
    if runs.is_empty() {
        return Ok("Nothing is archived.\n".to_owned());
    }
    let now = Timestamp::now();
    let row = |run: &Value| {
        let run = Archived::deserialize(run)?;
        Ok([
            run.run_id.to_string(),
            kept(&run).to_owned(),
            run.segments.to_string(),
            run.messages.to_string(),
            size(run.bytes),
            size(run.raw_bytes),
            run.archived_at.map_or_else(|| "-".to_owned(), |time| ago(time, now)),
        ])
    };
    let rows = runs.iter().map(row).collect::<Result<Vec<_>, serde_json::Error>>()?;
    let columns = [
        ("RUN", Left),
        ("KEPT", Left),
        ("SEGMENTS", Right),
        ("MESSAGES", Right),
        ("SIZE", Right),
        ("RAW", Right),
        ("ARCHIVED", Left),
    ];
    Ok(table(columns, &rows))
}

fn kept(run: &Archived) -> &'static str {
    match run {
        Archived { error: Some(_), .. } => "damaged",
        Archived { complete: true, .. } => "whole",
        _ => "so far",
    }
}

/// One run with its segments.
pub(super) fn run(archived: &Value) -> anyhow::Result<String> {
    let mut text = runs(std::slice::from_ref(archived))?;
    let segments =
        Vec::<Segment>::deserialize(archived.get("segment_list").unwrap_or(&Value::Null)).unwrap_or_default();
    if segments.is_empty() {
        return Ok(text);
    }
    let rows: Vec<_> = segments
        .into_iter()
        .map(|segment| {
            let lanes = segment
                .lanes
                .as_array()
                .map_or_else(|| segment.lanes.as_object().map_or(0, serde_json::Map::len), Vec::len);
            let sum = segment.sha256.chars().take(16).collect();
            [segment.name, size(segment.bytes), lanes.to_string(), sum]
        })
        .collect();
    let _ = write!(
        text,
        "\n{}",
        table([("SEGMENT", Left), ("SIZE", Right), ("LANES", Right), ("SHA-256", Left)], &rows)
    );
    Ok(text)
}

/// What verifying a run found.
pub(super) fn verdict(run: &RunId, verdict: &Value) -> anyhow::Result<String> {
    #[derive(Deserialize)]
    struct Verdict {
        ok: bool,
        #[serde(default)]
        segments: u64,
        #[serde(default)]
        messages: u64,
        #[serde(default)]
        problems: Vec<String>,
    }
    let Verdict { ok, segments, messages, problems } = Verdict::deserialize(verdict)?;
    let mark = if ok { '✓' } else { '✗' };
    let mut text = format!("{mark} {run}: {messages} messages in {segments} segments\n");
    for problem in problems {
        let problem: String = problem.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let _ = writeln!(text, "    {problem}");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_run_is_shown_with_its_segments() {
        let archived = json!({"run_id":"r","segments":1,"segment_list":[{"name":"00000001-0123456789abcdef.parquet","bytes":2048,
            "sha256":"0123456789abcdef0123","lanes":[{},{}]}],"messages":10,"bytes":2048,"raw_bytes":20480,
            "complete":true,"archived_at":null,"later":1});
        let expected = "\
RUN  KEPT   SEGMENTS  MESSAGES     SIZE     RAW  ARCHIVED
r    whole         1        10  2.0 KiB  20 KiB  -

SEGMENT                             SIZE  LANES  SHA-256
00000001-0123456789abcdef.parquet  2.0 KiB      2  0123456789abcdef
";
        let squeeze = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(squeeze(&run(&archived).unwrap()), squeeze(expected));
        let damaged = runs(&[json!({"run_id":"r","error":"its log has a hole"})]).unwrap();
        assert!(damaged.contains("damaged"), "{damaged}");
        assert_eq!(runs(&[]).unwrap(), "Nothing is archived.\n");
    }
}
