//! What is measured with: a mark in each message that says when it was published and which one it is.
//! Pure.

use std::sync::OnceLock;
use std::time::Instant;

/// `@`, nanoseconds in 15 digits, `.`, number in 9 digits, `@`.
pub const LENGTH: usize = 27;

/// A mark found in what a viewer got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// When it was published, in nanoseconds of [`now`].
    pub at: u64,
    /// Number of the message in its run, from 1 on.
    pub number: u64,
}

/// Nanoseconds since this was first asked.
pub fn now() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    u64::try_from(START.get_or_init(Instant::now).elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// A message of Runcast's (design: one JSON object) of about 256 bytes, with its mark.
pub fn message(out: &mut Vec<u8>, run: &str, mark: Mark) {
    use std::io::Write as _;
    let Mark { at, number } = mark;
    // Writing to memory cannot fail.
    let _ = write!(
        out,
        r#"{{"timestamp":"2026-01-10T10:30:00.123456Z","run_id":"{run}","variation_id":"v","sequence":{number},"type":"output","content":"@{at:015}.{number:09}@{:x<100}","metadata":{{}}}}"#,
        ""
    );
}

/// Finds the marks in a stream of bytes that comes in pieces.
#[derive(Debug, Clone, Default)]
pub struct Finder {
    /// The end of the last piece, which may be the beginning of a mark.
    carry: Vec<u8>,
}

impl Finder {
    /// Tells the marks that end in `bytes`.
    pub fn find(&mut self, bytes: &[u8], mut tell: impl FnMut(Mark)) {
        if !self.carry.is_empty() {
            let begun = self.carry.len();
            self.carry.extend_from_slice(&bytes[..bytes.len().min(LENGTH)]);
            for start in 0..begun {
                if let Some(mark) = self.carry.get(start..start + LENGTH).and_then(read) {
                    tell(mark);
                }
            }
            if bytes.len() < LENGTH {
                let keep = self.carry.len().saturating_sub(LENGTH - 1);
                self.carry.drain(..keep);
                return;
            }
            self.carry.clear();
        }
        let mut start = 0;
        while let Some(found) = bytes[start..].iter().position(|byte| *byte == b'@') {
            start += found;
            let Some(mark) = bytes.get(start..start + LENGTH) else { break };
            if let Some(mark) = read(mark) {
                tell(mark);
                start += LENGTH;
            } else {
                start += 1;
            }
        }
        let tail = bytes.len().saturating_sub(LENGTH - 1);
        if let Some(at) = bytes[tail.max(start.min(bytes.len()))..].iter().position(|byte| *byte == b'@') {
            self.carry.extend_from_slice(&bytes[tail.max(start.min(bytes.len())) + at..]);
        }
    }
}

fn read(bytes: &[u8]) -> Option<Mark> {
    if bytes[0] != b'@' || bytes[16] != b'.' || bytes[LENGTH - 1] != b'@' {
        return None;
    }
    Some(Mark { at: digits(&bytes[1..16])?, number: digits(&bytes[17..26])? })
}

fn digits(bytes: &[u8]) -> Option<u64> {
    bytes.iter().try_fold(0, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + u64::from(byte - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_found_whatever_pieces_they_come_in() {
        let mut text = b"HTTP/1.1 200 OK\r\n\r\nuser@example @12 @@".to_vec();
        let marks: Vec<_> = (1..=3).map(|number| Mark { at: number * 1_000_003, number }).collect();
        for mark in &marks {
            message(&mut text, "r", *mark);
            text.extend_from_slice(b"\n\n");
        }
        for size in [1, 2, 3, 7, 26, 27, 28, 100, text.len()] {
            for first in 0..=size.min(30) {
                let (mut finder, mut found) = (Finder::default(), Vec::new());
                finder.find(&text[..first], |mark| found.push(mark));
                for piece in text[first..].chunks(size) {
                    finder.find(piece, |mark| found.push(mark));
                }
                assert_eq!(found, marks, "pieces of {size} after {first}");
            }
        }
    }

    #[test]
    fn a_message_is_one() {
        let mut text = Vec::new();
        message(&mut text, "run-1", Mark { at: 1, number: 2 });
        let message = runcast_protocol::Message::parse(&text).expect("a message");
        assert_eq!((message.run_id.as_str(), message.sequence.get()), ("run-1", 2));
        assert!((240..=280).contains(&text.len()), "{}", text.len());
    }
}
