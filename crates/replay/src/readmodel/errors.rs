//! What went wrong in a run, as far as its logs and states say. Pure.

use runcast_protocol::{Json, State, Status, VariationId};
use serde::{Deserialize, Serialize};

/// Errors of one lane, and of one run, that are kept; all are counted.
pub(super) const KEPT: usize = 10;
/// Characters of an error that are kept.
const TEXT: usize = 300;
/// Levels as numbers, as bunyan and pino write them: 50 is an error, 60 is fatal.
const ERROR_LEVEL: f64 = 50.0;

/// The last errors of a lane.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct ErrorLog {
    pub(super) count: u64,
    pub(super) last: Vec<ErrorNote>,
}

/// One error.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct ErrorNote {
    pub(super) variation: VariationId,
    pub(super) at: i64,
    pub(super) text: String,
}

impl ErrorLog {
    pub(super) fn add(&mut self, variation: &VariationId, at: i64, text: &str) {
        self.count += 1;
        if self.last.len() == KEPT {
            self.last.remove(0);
        }
        self.last.push(ErrorNote { variation: variation.clone(), at, text: brief(text) });
    }
}

/// What a log record says, if it is an error: its `level` is error or fatal (in any case, or as a number
/// from 50 on).
pub(super) fn error_in_log(content: &Json) -> Option<String> {
    #[derive(Deserialize)]
    struct Leveled {
        level: Json,
    }
    #[derive(Deserialize)]
    struct Message {
        message: String,
    }
    #[derive(Deserialize)]
    struct Msg {
        msg: String,
    }
    let Leveled { level } = content.read().ok()?;
    let is_error = match level.to_text() {
        Some(name) => name.eq_ignore_ascii_case("error") || name.eq_ignore_ascii_case("fatal"),
        None => level.read::<f64>().is_ok_and(|number| number >= ERROR_LEVEL),
    };
    is_error.then(|| {
        let text = content.read::<Message>().map(|said| said.message);
        let text = text.or_else(|_| content.read::<Msg>().map(|said| said.msg));
        text.unwrap_or_else(|_| content.as_str().to_owned())
    })
}

/// What a status says, if a variation ended badly with it.
pub(super) fn error_in_status(status: &Status) -> Option<String> {
    matches!(status.state, State::Failed | State::Lost).then(|| match (&status.reason, status.exit_code) {
        (Some(reason), _) => format!("{}: {reason}", status.state),
        (None, Some(code)) => format!("{} with exit code {code}", status.state),
        (None, None) => status.state.to_string(),
    })
}

/// The beginning of a text.
pub(super) fn brief(text: &str) -> String {
    match text.char_indices().nth(TEXT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
