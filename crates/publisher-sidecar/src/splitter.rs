//! Standard output taken apart: log records go one way, everything else is output.

use runcast_protocol::Json;

use crate::record;

/// Longest line that is held back to see whether it is a log record.
pub const MAX_HELD: usize = 64 << 10;

/// What a piece of standard output was found to hold.
#[derive(Debug, Default, PartialEq)]
pub struct Split {
    /// Output, byte for byte.
    pub output: Vec<u8>,
    /// Log records, each of which was a line of its own.
    pub records: Vec<Json>,
}

/// Takes standard output apart as it comes. Only a line that begins with `{` is ever held back;
/// everything else passes at once. Knows no time: the caller says when waiting has been enough.
#[derive(Debug)]
pub struct Splitter {
    detect: bool,
    at_line_start: bool,
    /// The beginning of a line that may turn out to be a record.
    held: Vec<u8>,
}

impl Splitter {
    /// With `detect` false everything is output.
    pub fn new(detect: bool) -> Self {
        Self { detect, at_line_start: true, held: Vec::new() }
    }

    /// Whether a line is held back.
    pub fn is_holding(&self) -> bool {
        !self.held.is_empty()
    }

    /// Takes the next bytes.
    pub fn push(&mut self, bytes: &[u8]) -> Split {
        let mut split = Split::default();
        if !self.detect {
            split.output.extend_from_slice(bytes);
            return split;
        }
        for part in bytes.split_inclusive(|&b| b == b'\n') {
            self.part(part, &mut split);
        }
        split
    }

    /// The line that is held back has had its time: it is output, and so is the rest of it.
    pub fn expire(&mut self) -> Split {
        Split { output: std::mem::take(&mut self.held), records: Vec::new() }
    }

    /// There is nothing more to come; a last line without its newline is as good as any.
    pub fn finish(&mut self) -> Split {
        let mut split = Split::default();
        if self.is_holding() {
            self.line(&mut split);
        }
        split
    }

    /// Takes a line, or a part of one.
    fn part(&mut self, part: &[u8], split: &mut Split) {
        let ends = part.ends_with(b"\n");
        if self.is_holding() || (self.at_line_start && part.starts_with(b"{")) {
            self.held.extend_from_slice(part);
            if ends {
                self.line(split);
            } else if self.held.len() > MAX_HELD {
                split.output.append(&mut self.held);
            }
        } else {
            split.output.extend_from_slice(part);
        }
        self.at_line_start = ends;
    }

    /// Decides about the line that was held back.
    fn line(&mut self, split: &mut Split) {
        let line = std::mem::take(&mut self.held);
        match record::parse(&line) {
            Some(record) => split.records.push(record),
            None => split.output.extend_from_slice(&line),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RECORD: &str = "{\"timestamp\":\"t\",\"level\":\"info\"}";

    /// What comes out altogether if the input comes in `pieces`; `expire_after[i]` says whether the
    /// hold runs out after piece i.
    fn split(pieces: &[&[u8]], expire_after: impl Fn(usize) -> bool) -> Split {
        let mut splitter = Splitter::new(true);
        let mut all = Split::default();
        let mut take = |split: Split| {
            all.output.extend(split.output);
            all.records.extend(split.records);
        };
        for (at, piece) in pieces.iter().enumerate() {
            take(splitter.push(piece));
            if expire_after(at) {
                take(splitter.expire());
                assert!(!splitter.is_holding());
            }
        }
        take(splitter.finish());
        all
    }

    fn pieces<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        cuts.windows(2).map(|range| &bytes[range[0]..range[1]]).collect()
    }

    fn input() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            4 => Just(format!("{RECORD}\n").into_bytes()),
            1 => Just(RECORD.as_bytes().to_vec()),
            2 => Just(b"{\n".to_vec()),
            2 => Just(b"{".to_vec()),
            2 => Just(b"\n".to_vec()),
            2 => Just("word 🚀 ".as_bytes().to_vec()),
            1 => Just(b"{\"a\":1}\n".to_vec()),
            1 => Just(vec![b'{'; MAX_HELD - 1]),
            2 => proptest::collection::vec(any::<u8>(), 0..6),
        ];
        proptest::collection::vec(piece, 0..20).prop_map(|pieces| pieces.concat())
    }

    #[test]
    fn a_token_is_never_held_back() {
        let mut splitter = Splitter::new(true);
        assert_eq!(splitter.push(b"Hel").output, b"Hel");
        assert_eq!(splitter.push(b"lo {").output, b"lo {");
        assert_eq!(splitter.push(b"\n").output, b"\n");
        assert_eq!(splitter.push(b"{").output, b"");
        assert!(splitter.is_holding());
        assert_eq!(splitter.expire().output, b"{");
        assert_eq!(
            splitter.push(b"\"timestamp\":1,\"level\":2}\n").output,
            b"\"timestamp\":1,\"level\":2}\n"
        );
        let split = splitter.push(format!("a\n{RECORD}\nb").as_bytes());
        assert_eq!((split.output.as_slice(), split.records.len()), (&b"a\nb"[..], 1));
    }

    #[test]
    fn nothing_is_held_back_for_ever() {
        let mut splitter = Splitter::new(true);
        let long = vec![b'{'; MAX_HELD + 1];
        assert_eq!(splitter.push(&long).output, long);
    }

    #[test]
    fn without_detection_all_is_output() {
        let mut splitter = Splitter::new(false);
        assert_eq!(splitter.push(RECORD.as_bytes()).output, RECORD.as_bytes());
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(input in input(), cuts in proptest::collection::vec(any::<usize>(), 0..12), expiries in any::<u64>()) {
            let split = split(&pieces(&input, &cuts), |at| expiries >> (at % 64) & 1 == 1);
            // Without the records, the input is the output.
            let (mut rest, mut records) = (Vec::new(), split.records.len());
            let mut output = split.output.as_slice();
            for line in input.split_inclusive(|&b| b == b'\n') {
                if let Some(after) = output.strip_prefix(line) {
                    output = after;
                } else {
                    prop_assert!(record::parse(line).is_some(), "neither output nor record: {}", line.escape_ascii());
                    rest.extend_from_slice(line);
                    records -= 1;
                }
            }
            prop_assert_eq!((output.len(), records), (0, 0));
        }

        #[test]
        fn how_it_was_cut_does_not_matter(input in input(), cuts in proptest::collection::vec(any::<usize>(), 0..12)) {
            // Lines that are too long to be held depend on where they are cut: leave those out.
            let longest = input.split(|&b| b == b'\n').map(<[u8]>::len).max();
            prop_assume!(longest.unwrap_or(0) < MAX_HELD);
            prop_assert_eq!(split(&pieces(&input, &cuts), |_| false), split(&[&input], |_| false));
        }
    }
}
