//! Dead letters as people and programs read them.

use std::fmt::Write;

use jiff::Timestamp;
use runcast_bus::DeadLetter;
use runcast_protocol::{Json, timestamp};
use serde::Serialize;

use crate::ago::ago;
use crate::dead::LetterId;
use crate::dead::letters::Kept;
use crate::terminal::lines;

/// Longest reason that a table shows.
const MAX_REASON: usize = 100;

/// The list for people.
pub(crate) fn table(letters: &[Kept], now: Timestamp) -> String {
    let width = |title: &str, text: &dyn Fn(&Kept) -> String| {
        letters.iter().map(|letter| text(letter).len()).max().unwrap_or(0).max(title.len())
    };
    let id = width("ID", &|letter| letter.id.to_string());
    let lane = width("LANE", &|letter| letter.lane.to_string());
    let mut text =
        format!("{:id$}  {:>12}  {:lane$}  {:>8}  {:>9}  REASON\n", "ID", "AGE", "LANE", "SEQUENCE", "BYTES");
    for letter in letters {
        let sequence = letter.sequence.map_or_else(|| "-".to_owned(), |number| number.to_string());
        let reason: String = letter.reason.chars().take(MAX_REASON).collect();
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{:id$}  {:>12}  {:lane$}  {sequence:>8}  {:>9}  {}",
            letter.id.to_string(),
            ago(letter.time, now),
            letter.lane.to_string(),
            letter.bytes,
            lines(&reason.replace('\n', " ")),
        );
    }
    text
}

/// One letter whole, for people.
pub(crate) fn whole(id: LetterId, letter: &DeadLetter, now: Timestamp) -> String {
    let DeadLetter { reason, time, lane, sequence, original } = letter;
    let sequence =
        sequence.map_or_else(|| "none: it never had a number".to_owned(), |number| number.to_string());
    let original_text = match std::str::from_utf8(original).ok().and_then(|text| Json::parse(text).ok()) {
        Some(json) => pretty(&json),
        None => original.utf8_chunks().fold(String::new(), |mut text, chunk| {
            text += chunk.valid();
            text.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
            text
        }),
    };
    format!(
        "id        {id}\ntime      {}, {}\nlane      {lane}\nsequence  {sequence}\nreason    {}\nbytes     {}\n\n{}\n",
        timestamp::Text(*time),
        ago(*time, now),
        lines(reason),
        original.len(),
        lines(original_text.trim_end()),
    )
}

/// One letter whole, for programs.
///
/// # Errors
/// None that JSON knows of.
pub(crate) fn json(id: LetterId, letter: DeadLetter) -> serde_json::Result<String> {
    #[derive(Serialize)]
    struct Whole {
        #[serde(flatten)]
        kept: Kept,
        original: Json,
    }
    let original = String::from_utf8_lossy(&letter.original);
    let original = Json::parse(&original).unwrap_or_else(|_| Json::string(&original));
    serde_json::to_string_pretty(&Whole { kept: Kept::new(id, letter), original })
}

/// JSON in indented lines; the order of its keys and the text of its numbers stay as they are.
fn pretty(json: &Json) -> String {
    let (mut text, mut depth, mut in_string) = (String::new(), 0_usize, false);
    let mut chars = json.as_str().chars().peekable();
    let line = |text: &mut String, depth: usize| {
        text.push('\n');
        text.extend(std::iter::repeat_n("  ", depth));
    };
    while let Some(c) = chars.next() {
        match c {
            '"' => in_string = !in_string,
            '\\' if in_string => {
                text.push(c);
                text.extend(chars.next());
                continue;
            }
            '}' | ']' if !in_string => {
                depth = depth.saturating_sub(1);
                if !text.ends_with(['{', '[']) {
                    line(&mut text, depth);
                }
            }
            _ => {}
        }
        text.push(c);
        match c {
            '{' | '[' if !in_string => {
                depth += 1;
                if !matches!(chars.peek(), Some('}' | ']')) {
                    line(&mut text, depth);
                }
            }
            ',' if !in_string => line(&mut text, depth),
            ':' if !in_string => text.push(' '),
            _ => {}
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(original: &'static [u8]) -> DeadLetter {
        DeadLetter {
            reason: "redis rejects: too\u{1b}[31m large\nreally".into(),
            time: "2026-01-10T10:28:00Z".parse().unwrap(),
            lane: "logs/var-1".parse().unwrap(),
            sequence: None,
            original: original.into(),
        }
    }

    fn now() -> Timestamp {
        "2026-01-10T10:30:00Z".parse().unwrap()
    }

    #[test]
    fn a_table_lines_up() {
        let kept = [Kept::new("1768040000000-0".parse().unwrap(), letter(b"twelve bytes"))];
        let expected = "\
ID                        AGE  LANE        SEQUENCE      BYTES  REASON
1768040000000-0     2 min ago  logs/var-1         -         12  redis rejects: too\\u{1b}[31m large really
";
        assert_eq!(table(&kept, now()), expected);
    }

    #[test]
    fn a_message_is_shown_in_lines_as_it_was_written() {
        let json = r#"{"b":[1.10,{}],"a":{"s":"\"{,:}\\","e":[]},"n":18446744073709551617}"#;
        let expected = r#"{
  "b": [
    1.10,
    {}
  ],
  "a": {
    "s": "\"{,:}\\",
    "e": []
  },
  "n": 18446744073709551617
}"#;
        assert_eq!(pretty(&Json::parse(json).unwrap()), expected);
    }

    #[test]
    fn nothing_in_a_letter_steers_the_terminal() {
        for original in [&b"\x1b]0;title\x07\xff\xc2\x9b1m\r\n"[..], "{\"a\":\"\u{9b}1m\u{7f}\"}".as_bytes()]
        {
            let text = whole("5-0".parse().unwrap(), &letter(original), now());
            assert!(text.chars().all(|c| !c.is_control() || c == '\n'), "{text:?}");
        }
        let raw = whole("5-0".parse().unwrap(), &letter(b"\xff\x1bx"), now());
        assert!(raw.contains("\\xff\\u{1b}x\n") && raw.contains("never had a number"), "{raw}");
    }
}
