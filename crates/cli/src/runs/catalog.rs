//! Runs as the replay service knows them.

use std::collections::BTreeMap;

use anyhow::ensure;
use http::StatusCode;
use jiff::Timestamp;
use runcast_protocol::State;
use serde::Deserialize;
use serde_json::Value;

use crate::ago::ago;
use crate::archive::escaped;
use crate::arguments::RunsOptions;
use crate::server::Server;
use crate::table::Side::{Left, Right};
use crate::table::table;
use crate::tail::follow::is_passing;

/// Runs asked for at once.
const PAGE: usize = 500;
/// Characters of the last words that are shown.
const LAST_WORDS: usize = 40;

#[derive(Debug, Deserialize)]
struct Page {
    runs: Vec<Value>,
    #[serde(default)]
    next_page_token: String,
}

/// What is shown of a run's summary. Absent fields are empty.
#[derive(Debug, Deserialize)]
struct Summary {
    run_id: String,
    state: State,
    #[serde(default)]
    started: Option<Timestamp>,
    #[serde(default)]
    duration_seconds: Option<f64>,
    #[serde(default)]
    variations: BTreeMap<String, Variation>,
    #[serde(default)]
    channels: BTreeMap<String, Channel>,
    #[serde(default)]
    tokens_per_second: Option<f64>,
}

#[derive(Debug, Deserialize)]
struct Variation {
    #[serde(default)]
    last_words: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Channel {
    #[serde(default)]
    messages: u64,
}

/// Asks for the runs; the inner error says why there is no replay service to ask.
///
/// # Errors
/// If it refuses, or what it says cannot be understood.
pub(super) async fn ask(
    options: &RunsOptions,
    replay: &Server,
) -> anyhow::Result<Result<Vec<Value>, String>> {
    let wanted = options.limit as usize;
    let states: Vec<_> = options.state.iter().map(|state| state.as_str()).collect();
    let (mut runs, mut token) = (Vec::new(), String::new());
    while runs.len() < wanted {
        let mut path = format!("/v1/runs?limit={}", PAGE.min(wanted - runs.len()));
        if !states.is_empty() {
            path += &format!("&state={}", states.join(","));
        }
        if !token.is_empty() {
            path += &format!("&page_token={}", escaped(&token));
        }
        let answer = match replay.get(&path, &[]).await {
            Ok(answer) => answer,
            Err(error) => return Ok(Err(format!("{error:#}"))),
        };
        if answer.status == StatusCode::NOT_FOUND || is_passing(answer.status) {
            return Ok(Err(format!("{replay}: {}", answer.problem().await)));
        }
        let page: Page = answer.json().await?;
        runs.extend(page.runs);
        if page.next_page_token.is_empty() {
            break;
        }
        ensure!(page.next_page_token != token, "{replay} leads in a circle");
        token = page.next_page_token;
    }
    runs.truncate(wanted);
    Ok(Ok(runs))
}

/// A table of runs.
///
/// # Errors
/// If what is told of a run cannot be understood.
pub(super) fn text(runs: &[Value], now: Timestamp) -> anyhow::Result<String> {
    let row = |run: &Value| {
        let run = Summary::deserialize(run)?;
        let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let messages: u64 = run.channels.values().map(|channel| channel.messages).sum();
        let words = run.variations.values().find_map(|variation| {
            variation.last_words.as_deref().map(str::trim).filter(|words| !words.is_empty())
        });
        Ok([
            run.run_id,
            run.state.to_string(),
            or_none(run.started.map(|time| ago(time, now))),
            or_none(run.duration_seconds.map(lasted)),
            run.variations.len().to_string(),
            messages.to_string(),
            or_none(run.tokens_per_second.map(|rate| format!("{rate:.1}"))),
            words.map(end).unwrap_or_default(),
        ])
    };
    let rows = runs.iter().map(row).collect::<Result<Vec<_>, serde_json::Error>>()?;
    let columns = [
        ("RUN", Left),
        ("STATE", Left),
        ("STARTED", Left),
        ("LASTED", Right),
        ("VARIATIONS", Right),
        ("MESSAGES", Right),
        ("TOKENS/S", Right),
        ("LAST WORDS", Left),
    ];
    Ok(table(columns, &rows))
}

/// `1:02:03`, `4:05`, `12 s`
fn lasted(seconds: f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it saturates")]
    let seconds = seconds.max(0.0).round() as u64;
    match seconds {
        ..60 => format!("{seconds} s"),
        60..3600 => format!("{}:{:02}", seconds / 60, seconds % 60),
        _ => format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60),
    }
}

/// The end of a text, on one line.
fn end(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let length = line.chars().count();
    if length <= LAST_WORDS {
        return line;
    }
    "…".chars().chain(line.chars().skip(length - LAST_WORDS + 1)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_summary_is_a_row_whatever_is_missing() {
        let now: Timestamp = "2026-01-10T10:30:00Z".parse().unwrap();
        let runs = [
            json!({"run_id":"r-1","state":"succeeded","started":"2026-01-10T10:28:00Z","ended":"2026-01-10T10:29:05Z",
                "duration_seconds":65.2,"variations":{"a":{"state":"succeeded","last_words":"and so\n it   ends"}},
                "channels":{"output":{"messages":90,"bytes":1},"status":{"messages":2,"bytes":1}},"tokens_per_second":12.34}),
            json!({"run_id":"r","state":"running","started":null,"duration_seconds":null}),
        ];
        let expected = "\
RUN  STATE      STARTED    LASTED  VARIATIONS  MESSAGES  TOKENS/S  LAST WORDS
r-1  succeeded  2 min ago    1:05           1        92      12.3  and so it ends
r    running    -               -           0         0         -
";
        assert_eq!(text(&runs, now).unwrap(), expected);
        assert_eq!(end(&"word ".repeat(100)).chars().count(), LAST_WORDS);
        assert_eq!((lasted(0.4), lasted(3723.0)), ("0 s".to_owned(), "1:02:03".to_owned()));
    }
}
