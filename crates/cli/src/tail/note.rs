//! What `tail` says about a run beside its agents' words, one line each.

use std::fmt::Write;

use runcast_protocol::{End, Gap, GapReason, Message, MessageType, State, Status};
use serde_json::Value;

use crate::terminal::one_line;

/// Longest line that is shown of a message.
const MAX_LEN: usize = 1000;

/// A message that is not output.
pub(crate) fn message(message: &Message) -> String {
    let text = match message.kind {
        MessageType::Log => log(message),
        MessageType::Status => status(message),
        _ => None,
    };
    let text = text.unwrap_or_else(|| {
        format!(
            "{}: {}",
            message.kind.channel(),
            message.content.to_text().unwrap_or(message.content.as_str().into())
        )
    });
    short(&text)
}

/// `12:30:01 warn  the message key=value`
fn log(message: &Message) -> Option<String> {
    let time = message.timestamp.strftime("%H:%M:%S");
    let Value::Object(mut record) = message.content.read().ok()? else { return None };
    let mut text = time.to_string();
    if let Some(Value::String(level)) = record.remove("level") {
        let _ = write!(text, " {:<5}", level.to_lowercase());
    }
    for name in ["message", "msg"] {
        if let Some(Value::String(said)) = record.remove(name) {
            let _ = write!(text, " {said}");
        }
    }
    record.remove("timestamp");
    for (name, value) in record {
        let _ = match value {
            Value::String(value) => write!(text, " {name}={value}"),
            value => write!(text, " {name}={value}"),
        };
    }
    Some(text)
}

fn status(message: &Message) -> Option<String> {
    let status: Status = message.content.read().ok()?;
    let mut text = status.state.to_string();
    if let Some(code) = status.exit_code.filter(|code| *code != 0) {
        let _ = write!(text, ", exit code {code}");
    }
    if let Some(signal) = status.signal {
        let _ = write!(text, ", signal {signal}");
    }
    if let Some(reason) = status.reason {
        let _ = write!(text, ": {reason}");
    }
    Some(text)
}

/// Messages that can no longer be had.
pub(crate) fn gap(gap: &Gap) -> String {
    let why = match gap.reason {
        GapReason::Trimmed => "trimmed by the stream's length limit",
        GapReason::Evicted => "the stream is gone from Redis",
        GapReason::Malformed => "what Redis holds there cannot be read",
    };
    format!("messages {} to {} of {} can no longer be had: {why}", gap.first, gap.last, gap.lane)
}

/// How the run ended.
pub(crate) fn end(end: &End) -> String {
    let mut text = format!("run {} {}", end.run_id, end.state);
    let others = end.variations.iter().filter(|(_, state)| **state != State::Succeeded);
    let others: Vec<_> = others.map(|(variation, state)| format!("{variation} {state}")).collect();
    if end.variations.len() > 1 && !others.is_empty() {
        let _ = write!(text, ": {}", others.join(", "));
    }
    text
}

/// As one line, of a length that can be read.
fn short(text: &str) -> String {
    let mut line: String = one_line(text).chars().take(MAX_LEN).collect();
    if text.chars().nth(MAX_LEN).is_some() {
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(kind: &str, content: &str) -> String {
        let text = format!(
            r#"{{"timestamp":"2026-01-10T10:30:00.123456Z","run_id":"r","variation_id":"v","sequence":1,"type":"{kind}","content":{content},"metadata":{{}}}}"#
        );
        message(&Message::parse(text.as_bytes()).unwrap())
    }

    #[test]
    fn messages_are_one_readable_line() {
        for (kind, content, line) in [
            (
                "log",
                r#"{"level":"WARN","message":"slow","ms":12,"at":"x"}"#,
                "10:30:00 warn  slow at=x ms=12",
            ),
            ("log", r#"{"message":"plain\n\u001b[31mtext"}"#, "10:30:00 plain  [31mtext"),
            ("log", "7", "logs: 7"),
            ("status", r#"{"state":"failed","exit_code":3,"reason":"why"}"#, "failed, exit code 3: why"),
            ("status", r#"{"progress":1}"#, r#"status: {"progress":1}"#),
            ("metric", r#"{"tokens":5}"#, r#"metrics: {"tokens":5}"#),
        ] {
            assert_eq!(parsed(kind, content), line);
        }
    }
}
