//! Standard error taken apart into lines.

use crate::utf8::Utf8Decoder;

/// Longest line that is kept together.
pub const MAX_LINE: usize = 64 << 10;

/// A line, or a part of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Its text without the newline.
    pub text: String,
    /// Whether the rest of the line follows.
    pub partial: bool,
    /// Whether it is a line from its beginning to its end.
    pub whole: bool,
}

/// Cuts text into lines as it comes. Knows no time: the caller says when a line without its newline
/// has waited long enough.
#[derive(Debug, Default)]
pub struct Lines {
    held: Vec<u8>,
    decoder: Utf8Decoder,
    /// Whether a part of the current line went out already.
    begun: bool,
}

impl Lines {
    /// Whether a line without its newline is held back.
    pub fn is_holding(&self) -> bool {
        !self.held.is_empty()
    }

    /// Takes the next bytes; returns the lines that they complete.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Line> {
        let mut lines = Vec::new();
        for part in bytes.split_inclusive(|&b| b == b'\n') {
            let (text, ends) = part.strip_suffix(b"\n").map_or((part, false), |text| (text, true));
            self.held.extend_from_slice(text);
            if ends {
                lines.push(self.end());
            } else if self.held.len() >= MAX_LINE {
                lines.extend(self.expire());
            }
        }
        lines
    }

    /// What is held back has had its time: it goes out as a part of a line.
    pub fn expire(&mut self) -> Option<Line> {
        self.begun |= self.is_holding();
        let text = self.decoder.push(&std::mem::take(&mut self.held));
        (!text.is_empty()).then_some(Line { text, partial: true, whole: false })
    }

    /// There is nothing more to come.
    pub fn finish(&mut self) -> Option<Line> {
        (self.begun || self.is_holding()).then(|| self.end())
    }

    fn end(&mut self) -> Line {
        let mut text = self.decoder.push(&std::mem::take(&mut self.held));
        text += &self.decoder.finish();
        Line { text, partial: false, whole: !std::mem::take(&mut self.begun) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn joined(lines: &[Line]) -> String {
        lines.iter().map(|line| format!("{}{}", line.text, if line.partial { "" } else { "\n" })).collect()
    }

    #[test]
    fn a_prompt_goes_out_as_a_part_and_the_rest_follows() {
        let mut lines = Lines::default();
        assert_eq!(lines.push(b"one\n\npassword: "), [whole("one"), whole("")]);
        assert_eq!(lines.expire(), Some(Line { text: "password: ".into(), partial: true, whole: false }));
        assert_eq!(lines.expire(), None);
        assert_eq!(lines.push(b"ok\nlast"), [Line { text: "ok".into(), partial: false, whole: false }]);
        assert_eq!(lines.finish(), Some(whole("last")));
        assert_eq!(lines.finish(), None);
    }

    fn whole(text: &str) -> Line {
        Line { text: text.into(), partial: false, whole: true }
    }

    proptest! {
        #[test]
        fn lines_put_together_are_the_text(
            pieces in proptest::collection::vec(proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'a'), any::<u8>()], 0..9), 0..20),
            expiries in any::<u32>(),
        ) {
            let mut lines = Lines::default();
            let mut out = Vec::new();
            for (at, piece) in pieces.iter().enumerate() {
                out.extend(lines.push(piece));
                if expiries >> at & 1 == 1 {
                    out.extend(lines.expire());
                }
            }
            out.extend(lines.finish());
            let mut all = String::from_utf8_lossy(&pieces.concat()).into_owned();
            if !all.is_empty() && !all.ends_with('\n') {
                all.push('\n');
            }
            prop_assert_eq!(joined(&out), all);
        }
    }
}
