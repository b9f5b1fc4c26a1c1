//! The same events over a WebSocket: each Server-Sent Events frame as a JSON object.

/// A frame as a WebSocket carries it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketMessage {
    /// `{"id":"…","event":"output","data":…}`, the data byte for byte, and a `retry` in milliseconds
    /// where the frame had one.
    pub json: Vec<u8>,
    /// Whether the event is `end`.
    pub is_end: bool,
}

/// Makes messages of whole frames as [`sse`](crate::sse) writes them: lines end in LF, data is JSON.
/// Comments are nobody's message.
pub fn messages(mut frames: &[u8]) -> impl Iterator<Item = SocketMessage> {
    std::iter::from_fn(move || {
        while !frames.is_empty() {
            let mut frame = Fields::default();
            while let Some(line) = take_line(&mut frames).filter(|line| !line.is_empty()) {
                frame.add(line);
            }
            if !frame.data.is_empty() {
                return Some(frame.message());
            }
        }
        None
    })
}

/// The next line without its LF.
fn take_line<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    if bytes.is_empty() {
        return None;
    }
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let line = &bytes[..end];
    *bytes = bytes.get(end + 1..).unwrap_or_default();
    Some(line)
}

#[derive(Default)]
struct Fields<'a> {
    id: &'a [u8],
    event: &'a [u8],
    retry: &'a [u8],
    data: Vec<&'a [u8]>,
}

impl<'a> Fields<'a> {
    fn add(&mut self, line: &'a [u8]) {
        if let Some(value) = line.strip_prefix(b"data: ") {
            self.data.push(value);
        } else if let Some(value) = line.strip_prefix(b"id: ") {
            self.id = value;
        } else if let Some(value) = line.strip_prefix(b"event: ") {
            self.event = value;
        } else if let Some(value) = line.strip_prefix(b"retry: ") {
            self.retry = value;
        }
    }

    fn message(self) -> SocketMessage {
        let length: usize = self.data.iter().map(|line| line.len() + 1).sum();
        let mut json = Vec::with_capacity(length + self.id.len() + self.event.len() + 48);
        json.extend_from_slice(b"{\"id\":");
        write_text(&mut json, self.id);
        json.extend_from_slice(b",\"event\":");
        write_text(&mut json, self.event);
        if !self.retry.is_empty() {
            json.extend_from_slice(b",\"retry\":");
            json.extend_from_slice(self.retry);
        }
        json.extend_from_slice(b",\"data\":");
        for (number, line) in self.data.iter().enumerate() {
            if number > 0 {
                json.push(b'\n');
            }
            json.extend_from_slice(line);
        }
        json.push(b'}');
        SocketMessage { json, is_end: self.event == b"end" }
    }
}

/// A JSON string. Cursors and names hold nothing to be escaped; whatever else comes here is.
fn write_text(out: &mut Vec<u8>, text: &[u8]) {
    let plain = text.iter().all(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\'));
    if plain {
        out.push(b'"');
        out.extend_from_slice(text);
        out.push(b'"');
    } else {
        out.extend_from_slice(serde_json::Value::from(String::from_utf8_lossy(text)).to_string().as_bytes());
    }
}
