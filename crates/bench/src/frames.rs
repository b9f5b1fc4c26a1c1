//! An event stream read frame by frame, for viewers that come back: what was cut off in the middle does not
//! count as seen. Pure.

use crate::marker::{Finder, Mark};

/// What a viewer has of a stream. HTTP's chunks are not taken out of it: each holds whole frames, so their
/// sizes stand on lines of their own, which mean nothing to SSE.
#[derive(Debug, Default)]
pub struct Frames {
    line: Vec<u8>,
    /// Of the frame that is being read.
    next_id: Option<String>,
    marks: Vec<Mark>,
    /// Of the last whole frame.
    id: String,
}

impl Frames {
    /// After the event with this id.
    pub fn after(id: String) -> Self {
        Self { id, ..Self::default() }
    }

    /// The last whole frame's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Tells the marks of the frames that end in `bytes`.
    pub fn push(&mut self, bytes: &[u8], mut tell: impl FnMut(Mark)) {
        let mut lines = bytes.split(|byte| *byte == b'\n').peekable();
        while let Some(part) = lines.next() {
            self.line.extend_from_slice(part);
            if lines.peek().is_none() {
                break;
            }
            let line = std::mem::take(&mut self.line);
            if let Some(id) = line.strip_prefix(b"id: ") {
                self.next_id = Some(String::from_utf8_lossy(id).into_owned());
            } else if line.starts_with(b"data: ") {
                Finder::default().find(&line, |mark| self.marks.push(mark));
            } else if line.is_empty() {
                if let Some(id) = self.next_id.take() {
                    self.id = id;
                }
                self.marks.drain(..).for_each(&mut tell);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::marker::message;

    #[test]
    fn only_whole_frames_count() {
        let mut text = b"HTTP/1.1 200 OK\r\n\r\nc\r\nretry: 2000\n\r\n".to_vec();
        for number in 1..=2 {
            text.extend_from_slice(format!("1a4\r\nid: v:{number}\nevent: output\ndata: ").as_bytes());
            message(&mut text, "r", Mark { at: 5, number });
            text.extend_from_slice(b"\n\n\r\n");
        }
        for cut in 0..text.len() {
            let (mut frames, mut numbers) = (Frames::after("v:0".into()), Vec::new());
            frames.push(&text[..cut], |mark| numbers.push(mark.number));
            let whole = text[..cut].windows(2).filter(|two| two == b"\n\n").count() as u64;
            assert_eq!(numbers, (1..=whole).collect::<Vec<_>>());
            assert_eq!(frames.id(), format!("v:{whole}"));
            frames.push(&text[cut..], |mark| numbers.push(mark.number));
            assert_eq!(numbers, [1, 2]);
        }
    }
}
