//! Server-Sent Events: frames out, and a parser for those who read them.
//!
//! Source: WHATWG HTML, "Server-sent events" §9.2.5–9.2.6.

use std::time::Duration;

use crate::EventName;

/// What is sent in silence: a comment with **one** LF. A comment followed by a blank line reaches
/// the application as an empty message in some clients.
pub const HEARTBEAT: &[u8] = b":\n";

/// Appends one frame to `out`: lines end in LF only, and no `data` can break out of it. Line ends
/// within `data` become several `data:` lines, as the standard has it; JSON on one line has none.
///
/// `id` is a cursor's text and so holds neither line ends nor NUL; a frame that is given one
/// anyway goes out without an id.
pub fn write_frame(out: &mut Vec<u8>, id: &str, event: EventName, data: &[u8]) {
    write_id(out, id);
    write_event(out, event, data);
}

/// Appends the `id:` line of a frame.
pub fn write_id(out: &mut Vec<u8>, id: &str) {
    if !id.contains(['\n', '\r', '\0']) {
        out.extend_from_slice(b"id: ");
        out.extend_from_slice(id.as_bytes());
        out.push(b'\n');
    }
}

/// Appends the rest of a frame after its `id:` line.
pub fn write_event(out: &mut Vec<u8>, event: EventName, data: &[u8]) {
    out.reserve(data.len() + 32);
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(event.as_str().as_bytes());
    for line in lines(data) {
        out.extend_from_slice(b"\ndata: ");
        out.extend_from_slice(line);
    }
    out.extend_from_slice(b"\n\n");
}

/// Appends the `retry:` field, to stand before a frame: on a frame of its own it would reach some
/// clients as an empty message.
pub fn write_retry(out: &mut Vec<u8>, delay: Duration) {
    out.extend_from_slice(format!("retry: {}\n", delay.as_millis()).as_bytes());
}

/// Splits at LF, CR and CRLF, as a client does.
fn lines(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(data);
    std::iter::from_fn(move || {
        let text = rest?;
        let Some(end) = text.iter().position(|b| matches!(b, b'\n' | b'\r')) else {
            rest = None;
            return Some(text);
        };
        let skip = if text[end..].starts_with(b"\r\n") { 2 } else { 1 };
        rest = Some(&text[end + skip..]);
        Some(&text[..end])
    })
}

/// An event as a client sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Event {
    /// The last event id after this event.
    pub id: String,
    /// The event's name; empty means `message`.
    pub event: String,
    /// The data, its lines joined by LF.
    pub data: String,
}

/// An incremental parser of an event stream: bytes in as they come, events out.
#[derive(Debug, Default)]
pub struct Parser {
    line: Vec<u8>,
    after_cr: bool,
    past_first_line: bool,
    data: Option<String>,
    event: String,
    /// The id of the event that is being read; only its blank line makes it the last event id.
    next_id: String,
    id: String,
    retry: Option<Duration>,
}

impl Parser {
    /// Takes what came and returns the events that it completed.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Event> {
        let mut events = Vec::new();
        for &byte in bytes {
            let lf_of_crlf = std::mem::replace(&mut self.after_cr, byte == b'\r') && byte == b'\n';
            match byte {
                _ if lf_of_crlf => {}
                b'\n' | b'\r' => {
                    let line = std::mem::take(&mut self.line);
                    events.extend(self.end_of_line(&String::from_utf8_lossy(&line)));
                }
                _ => self.line.push(byte),
            }
        }
        events
    }

    /// The last event id: what to send as `Last-Event-ID` on reconnecting. An event that is not yet
    /// complete does not count: whoever resumed after it would never see it.
    pub fn last_event_id(&self) -> &str {
        &self.id
    }

    /// The reconnection delay that the server asked for last.
    pub fn retry(&self) -> Option<Duration> {
        self.retry
    }

    fn end_of_line(&mut self, mut line: &str) -> Option<Event> {
        if !std::mem::replace(&mut self.past_first_line, true) {
            line = line.strip_prefix('\u{feff}').unwrap_or(line);
        }
        if line.is_empty() {
            self.id.clone_from(&self.next_id);
            let event = std::mem::take(&mut self.event);
            return self.data.take().map(|data| Event { id: self.id.clone(), event, data });
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            },
            "event" => value.clone_into(&mut self.event),
            "id" if !value.contains('\0') => value.clone_into(&mut self.next_id),
            "retry" if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) => {
                self.retry = value.parse().ok().map(Duration::from_millis).or(self.retry);
            }
            _ => {}
        }
        None
    }
}
