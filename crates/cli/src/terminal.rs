//! What agents wrote, so that it cannot steer the terminal of who reads it (CWE-150): no titles, no links or
//! clipboards, no moving about to write over what others said.

use anstyle_parse::{Params, Parser, Perform};
use runcast_runtime::logs::reorders;

/// One line for a table or a note: control characters become spaces.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { harmless(c) }).collect()
}

/// Lines as they are, what steers is written out.
pub(crate) fn lines(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && c != '\n' && c != '\t' {
            safe.extend(c.escape_default());
        } else {
            safe.push(harmless(c));
        }
    }
    safe
}

fn harmless(c: char) -> char {
    if reorders(c) { char::REPLACEMENT_CHARACTER } else { c }
}

/// Keeps of an agent's words the text, its colours (SGR) and `\r`, with which progress is shown. A sequence may
/// come in pieces, but ends with its line, so that one that is never finished hides no more than that.
#[derive(Debug, Default)]
pub(crate) struct Words {
    parser: Parser,
}

impl Words {
    /// What may be shown of the next piece.
    pub(crate) fn take(&mut self, text: &str) -> String {
        let mut kept = Kept(String::with_capacity(text.len()));
        for line in text.split_inclusive('\n') {
            let (line, end) = line.strip_suffix('\n').map_or((line, None), |line| (line, Some('\n')));
            for byte in line.bytes() {
                self.parser.advance(&mut kept, byte);
            }
            if let Some(end) = end {
                self.parser = Parser::default();
                kept.0.push(end);
            }
        }
        kept.0
    }
}

/// What a terminal would do, as text.
struct Kept(String);

impl Perform for Kept {
    fn print(&mut self, c: char) {
        if !c.is_control() {
            self.0.push(harmless(c));
        }
    }

    fn execute(&mut self, byte: u8) {
        if matches!(byte, b'\t' | b'\r') {
            self.0.push(char::from(byte));
        }
    }

    fn csi_dispatch(&mut self, params: &Params, intermediates: &[u8], ignore: bool, action: u8) {
        if action != b'm' || !intermediates.is_empty() || ignore {
            return;
        }
        let joined = |numbers: &[u16]| numbers.iter().map(u16::to_string).collect::<Vec<_>>().join(":");
        let params: Vec<_> = params.iter().map(joined).collect();
        self.0 += &format!("\x1b[{}m", params.join(";"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_colours_stay_and_nothing_steers() {
        for (said, shown) in [
            ("plain\ttext, 手紙 \u{1f680}\n\n", "plain\ttext, 手紙 \u{1f680}\n\n"),
            ("\x1b[1;38;5;208morange\x1b[0m", "\x1b[1;38;5;208morange\x1b[0m"),
            ("\x1b[4:3mcurly\x1b[m", "\x1b[4:3mcurly\x1b[0m"),
            ("10 %\r20 %\r\n", "10 %\r20 %\r\n"),
            ("up\x1b[A and clear\x1b[2J\x1b[H", "up and clear"),
            ("\x1b]0;a title\x07text", "text"),
            ("\x1b]52;c;cm0gLXJm\x1b\\text", "text"),
            ("\x1b]8;;https://evil.example\x07link\x1b]8;;\x07", "link"),
            ("\x1bPa device\x1b\\text\x1b_an application\x1b\\", "text"),
            ("never ended \x1b]0;hidden\nshown\n", "never ended \nshown\n"),
            ("bell\x07 back\x08 full reset\x1bc NUL\0 DEL\x7f", "bell back full reset NUL DEL"),
            ("8 bits \u{9b}2J", "8 bits 2J"),
            ("evil\u{202e}txt", "evil\u{fffd}txt"),
        ] {
            let mut words = Words::default();
            assert_eq!(words.take(said), shown, "{said:?}");
            // The same in pieces, however it is cut.
            for cut in said.char_indices().map(|(at, _)| at) {
                let mut words = Words::default();
                assert_eq!(words.take(&said[..cut]) + &words.take(&said[cut..]), shown, "{said:?} at {cut}");
            }
        }
    }

    #[test]
    fn lines_of_text_are_written_out() {
        assert_eq!(lines("a\tb\n\x1b[2J\u{2066}"), "a\tb\n\\u{1b}[2J\u{fffd}");
        assert_eq!(one_line("a\tb\n\x1b[2J\u{2066}"), "a b  [2J\u{fffd}");
    }
}
