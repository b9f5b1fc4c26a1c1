//! Logs: for people on a terminal, for machines otherwise. Always on stderr, since a sidecar's stdout
//! belongs to its agent.

use std::{
    fmt::Debug,
    io::{self, IsTerminal as _},
};

use serde::Deserialize;
use tracing::{Subscriber, field::Field};
use tracing_subscriber::{
    EnvFilter, Layer,
    field::MakeExt as _,
    filter::ParseError,
    fmt::{
        self, MakeWriter,
        format::{Writer, debug_fn},
        time::SystemTime,
    },
    registry::LookupSpan,
};

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum LogFormat {
    /// `Pretty` when stderr is a terminal, `Json` otherwise.
    #[default]
    Auto,
    /// One line of text for people, coloured on a terminal unless `NO_COLOR` is set.
    Pretty,
    /// One JSON object a line: `timestamp`, `level`, `target`, `message`, the event's fields, and the
    /// innermost span as `span`. A field of an event must not have one of these names.
    Json,
}

impl TryFrom<String> for LogFormat {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.as_str() {
            "auto" => Ok(LogFormat::Auto),
            "pretty" => Ok(LogFormat::Pretty),
            "json" => Ok(LogFormat::Json),
            _ => Err("expected `auto`, `pretty` or `json`"),
        }
    }
}

/// The filter that `text` describes. Without a word about it there, the exporter's inner life is
/// told from warnings up.
pub(crate) fn filter(text: &str) -> Result<EnvFilter, ParseError> {
    EnvFilter::try_new(format!("opentelemetry=warn,{text}"))
}

/// The layer that writes to stderr.
pub(crate) fn layer<S>(format: LogFormat, filter: EnvFilter) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let terminal = io::stderr().is_terminal();
    let json = format == LogFormat::Json || (format == LogFormat::Auto && !terminal);
    let colours = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    writing_to(io::stderr, json, colours).with_filter(filter).boxed()
}

fn writing_to<S, W>(writer: W, json: bool, colours: bool) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let layer = fmt::layer()
        .with_writer(writer)
        .with_timer(SystemTime)
        // Otherwise a reader of stderr that is gone becomes a panic at the next log line.
        .log_internal_errors(false);
    if json {
        layer.json().flatten_event(true).with_current_span(true).with_span_list(false).boxed()
    } else {
        layer.with_ansi(colours).fmt_fields(debug_fn(field).delimited(" ")).boxed()
    }
}

/// Writes one field. `tracing-subscriber` by itself escapes the message and text, but not what is logged
/// by its `Display` (`%value`), and agents and clients choose many of those.
fn field(writer: &mut Writer<'_>, field: &Field, value: &dyn Debug) -> std::fmt::Result {
    if field.name() != "message" {
        write!(writer, "{field}=")?;
    }
    for character in format!("{value:?}").chars() {
        match character {
            // A backtrace is for reading. No line of it begins as one of ours does.
            '\n' => writer.write_str("\n    ")?,
            '\t' => writer.write_char('\t')?,
            _ if character.is_control() || reorders(character) => {
                write!(writer, "{}", character.escape_unicode())?;
            }
            _ => writer.write_char(character)?,
        }
    }
    Ok(())
}

/// Whether a character breaks lines or shows text in another order than it has (<https://trojansource.codes>).
#[must_use]
pub fn reorders(character: char) -> bool {
    matches!(character, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use serde_json::Value;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    fn written(json: bool, log: impl FnOnce()) -> String {
        #[derive(Clone, Default)]
        struct Memory(Arc<Mutex<Vec<u8>>>);
        impl io::Write for Memory {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.lock().unwrap().write(bytes)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let memory = Memory::default();
        let writer = memory.clone();
        let subscriber = tracing_subscriber::registry().with(writing_to(move || writer.clone(), json, false));
        tracing::subscriber::with_default(subscriber, log);
        let bytes = memory.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn json_is_one_object_a_line() {
        let text = written(true, || {
            let _span = tracing::info_span!("append", run_id = "run-1").entered();
            tracing::warn!(target: "bus", attempt = 3, reason = "a\nb \x1b[31mred", "cannot append");
        });
        assert_eq!(text.matches('\n').count(), 1, "{text}");
        assert!(!text.contains('\x1b'), "{text}");
        let line: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["level"], "WARN");
        assert_eq!(line["target"], "bus");
        assert_eq!(line["message"], "cannot append");
        assert_eq!(line["attempt"], 3);
        assert_eq!(line["reason"], "a\nb \x1b[31mred");
        assert_eq!(line["span"]["run_id"], "run-1");
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z'), "{text}");
    }

    #[test]
    fn values_cannot_colour_or_clear_the_terminal() {
        let text = written(false, || {
            tracing::info!(plain = "\x1b[2Jgone", shown = %"\x1b[31mred", "agent \x1b]0;said\x07 {}", "\x1b[0m");
        });
        assert!(text.contains("gone") && text.contains("red"), "{text:?}");
        assert!(!text.contains('\x1b'), "{text:?}");
    }

    #[test]
    fn no_value_forges_a_line() {
        let forged = "r\r\n2026-01-10T10:30:00.000000Z  INFO audit: caller=\"ana\"\u{2028}\u{202e}\0\n{\"level\":\"INFO\"}";
        let text = written(false, || {
            tracing::info!(shown = %forged, told = ?forged, plain = forged, "{forged}");
        });
        for line in text.lines().skip(1) {
            assert!(line.starts_with("    "), "{line:?} of {text:?}");
        }
        assert!(!text.contains(['\r', '\0', '\u{2028}', '\u{202e}']), "{text:?}");
        let text = written(true, || tracing::info!(shown = %forged, plain = forged, "{forged}"));
        assert_eq!(text.matches('\n').count(), 1, "{text}");
        let line: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&line["level"], &line["message"]), (&"INFO".into(), &forged.into()));
    }

    #[test]
    fn the_exporter_is_quiet_unless_asked() {
        assert!(filter("info").unwrap().to_string().contains("opentelemetry=warn"));
        assert!(filter("info,opentelemetry=debug").unwrap().to_string().contains("opentelemetry=debug"));
        assert!(filter("info,=").is_err());
    }
}
