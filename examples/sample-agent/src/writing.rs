//! Writing a text, and talking about it.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use crate::log;
use crate::rhythm::Rhythm;
use crate::tokens;

/// An agent with its two mouths. `sleep` is how it waits.
pub(crate) struct Agent<O, E, S> {
    /// Text and log records.
    pub(crate) out: O,
    /// Plain lines.
    pub(crate) err: E,
    /// Waits for a time.
    pub(crate) sleep: S,
    /// Whether to write the text only.
    pub(crate) quiet: bool,
}

impl<O: Write, E: Write, S: FnMut(Duration)> Agent<O, E, S> {
    /// Thinks, then writes `text` token by token. Each token is flushed by itself. Log records come
    /// only where a line begins, so that the text without them is the text.
    pub(crate) fn write(
        mut self,
        title: &str,
        text: &str,
        mut rhythm: Rhythm,
        think: Duration,
        exit_code: u8,
    ) -> io::Result<()> {
        let started = Instant::now();
        let sections = Sections::of(text);
        self.say(&format!("sample-agent: writing {title}, {} bytes", text.len()));
        self.log("debug", "thinking", &[("milliseconds", think.as_millis().to_string())])?;
        (self.sleep)(think);

        let (mut at, mut count, mut half_told) = (0, 0_u32, false);
        let mut hesitated = None;
        for piece in tokens::pieces(text) {
            if at == 0 || text.as_bytes()[at - 1] == b'\n' {
                if let Some(pause) = hesitated.take() {
                    self.log("warn", "hesitated over a sentence", &[("milliseconds", millis(pause))])?;
                }
                if let Some((number, heading)) = sections.starting_at(at) {
                    let message = format!("section {number} of {}", sections.0.len());
                    let fields = [("heading", log::string(heading)), ("tokens", count.to_string())];
                    self.log("info", &message, &fields)?;
                }
            }
            self.out.write_all(piece)?;
            self.out.flush()?;
            at += piece.len();
            count += 1;
            if !half_told && at >= text.len() / 2 {
                half_told = true;
                self.say(&format!("sample-agent: half way, {count} tokens"));
            }
            let pause = rhythm.after(&text.as_bytes()[..at], &text.as_bytes()[at..]);
            if pause.hesitated {
                hesitated = Some(pause.wait);
            }
            (self.sleep)(pause.wait);
        }

        let time = started.elapsed();
        if text.is_empty() || text.ends_with('\n') {
            let fields = [("tokens", count.to_string()), ("milliseconds", millis(time))];
            match exit_code {
                0 => self.log("info", "finished", &fields)?,
                code => self.log("error", &format!("giving up with exit code {code}"), &fields)?,
            }
        }
        self.say(&format!("sample-agent: {count} tokens in {:.1} s", time.as_secs_f64()));
        Ok(())
    }

    fn log(&mut self, level: &str, message: &str, fields: &[(&str, String)]) -> io::Result<()> {
        if self.quiet {
            return Ok(());
        }
        self.out.write_all(log::record(level, message, fields).as_bytes())?;
        self.out.flush()
    }

    /// A plain line, for whoever listens; that nobody does is no reason to stop.
    fn say(&mut self, line: &str) {
        if !self.quiet {
            let _ = writeln!(self.err, "{line}");
        }
    }
}

fn millis(time: Duration) -> String {
    time.as_millis().to_string()
}

/// Where a text's headings are: offset and title. Code blocks have none, whatever their comments
/// look like.
struct Sections<'a>(Vec<(usize, &'a str)>);

impl<'a> Sections<'a> {
    fn of(text: &'a str) -> Self {
        let (mut at, mut fenced, mut found) = (0, false, Vec::new());
        for line in text.split_inclusive('\n') {
            if line.starts_with("```") {
                fenced = !fenced;
            }
            if !fenced && line.starts_with('#') {
                found.push((at, line.trim_start_matches('#').trim()));
            }
            at += line.len();
        }
        Self(found)
    }

    fn starting_at(&self, at: usize) -> Option<(usize, &'a str)> {
        let index = self.0.iter().position(|(offset, _)| *offset == at)?;
        Some((index + 1, self.0[index].1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(text: &str, exit_code: u8, quiet: bool) -> (Vec<u8>, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let agent = Agent { out: &mut out, err: &mut err, sleep: |_| (), quiet };
        agent.write("test", text, Rhythm::new(35.0, 7), Duration::ZERO, exit_code).unwrap();
        (out, String::from_utf8(err).unwrap())
    }

    fn is_record(line: &[u8]) -> bool {
        line.starts_with(b"{\"timestamp\":")
    }

    #[test]
    fn without_its_records_the_output_is_the_text() {
        for text in
            ["", "no line end", "\n", "# a\n\n# b"].into_iter().chain(crate::TEXTS.map(|(_, text)| text))
        {
            assert!(!text.as_bytes().split_inclusive(|b| *b == b'\n').any(is_record));
            let (out, _) = write(text, 0, false);
            let rest: Vec<u8> = out
                .split_inclusive(|b| *b == b'\n')
                .filter(|line| !is_record(line))
                .flatten()
                .copied()
                .collect();
            assert_eq!(rest, text.as_bytes());
        }
    }

    #[test]
    fn every_section_is_announced_before_it_begins() {
        let (out, err) = write("# One\n\n```\n# no\n```\n## Two\n", 3, false);
        let out = String::from_utf8(out).unwrap();
        assert!(out.find("section 2 of 2").unwrap() < out.find("## Two").unwrap(), "{out}");
        assert!(out.contains("\"level\":\"error\",\"message\":\"giving up with exit code 3\""), "{out}");
        assert_eq!(err.lines().count(), 3);
    }

    #[test]
    fn quiet_writes_the_text_only() {
        assert_eq!(write("# One\ntwo", 0, true), (b"# One\ntwo".to_vec(), String::new()));
    }

    #[test]
    fn a_closed_pipe_is_told_apart() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let agent = Agent { out: Closed, err: io::sink(), sleep: |_| (), quiet: false };
        let error = agent.write("test", "a", Rhythm::new(1.0, 1), Duration::ZERO, 0).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
