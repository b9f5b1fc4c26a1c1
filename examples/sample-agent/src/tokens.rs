//! Cutting a text into pieces the size of a language model's tokens.

/// Most characters in a piece, whitespace included.
const LONGEST: usize = 6;

/// Cuts `text` into pieces of 1–6 characters: a space goes with the word that follows it, long
/// words come in parts, blank lines by themselves, ideographs one by one. Joined, the pieces are the
/// text.
///
/// Characters of four bytes (emoji) come in two halves, as byte-level tokenizers write them: a
/// reader that decodes each read by itself would show a broken character.
pub(crate) fn pieces(text: &str) -> impl Iterator<Item = &[u8]> {
    let mut rest = text;
    let mut half: Option<&[u8]> = None;
    std::iter::from_fn(move || {
        if let Some(half) = half.take() {
            return Some(half);
        }
        let first = rest.chars().next()?;
        if first.len_utf8() == 4 {
            let (emoji, after) = rest.split_at(4);
            rest = after;
            let (front, back) = emoji.as_bytes().split_at(2);
            half = Some(back);
            return Some(front);
        }
        let (piece, after) = rest.split_at(length(rest));
        rest = after;
        Some(piece.as_bytes())
    })
}

#[derive(PartialEq, Clone, Copy)]
enum Kind {
    Letter,
    Ideograph,
    LineEnd,
    Space,
    Sign,
}

fn kind(c: char) -> Kind {
    match c {
        '\n' | '\r' => Kind::LineEnd,
        c if c.is_whitespace() => Kind::Space,
        '\u{2E80}'..='\u{9FFF}' | '\u{F900}'..='\u{FAFF}' | '\u{FF00}'..='\u{FFEF}' => Kind::Ideograph,
        c if c.is_alphanumeric() => Kind::Letter,
        _ => Kind::Sign,
    }
}

/// Bytes of the piece that `text`, which is not empty, begins with.
fn length(text: &str) -> usize {
    let mut of: Option<Kind> = None;
    let mut word = 0;
    for (count, (at, c)) in text.char_indices().enumerate() {
        let kind = kind(c);
        let goes_on = match of {
            None => true,
            // One space may lead a word; runs of spaces (indented code) stay together.
            Some(Kind::Space) => kind != Kind::LineEnd && c.len_utf8() < 4,
            Some(Kind::Ideograph) => false,
            Some(of) => kind == of && c.len_utf8() < 4,
        };
        if !goes_on || count == LONGEST || word == part(text) {
            return at;
        }
        if of.is_none_or(|of| of == Kind::Space) {
            of = Some(kind);
        }
        word += usize::from(kind == Kind::Letter);
    }
    text.len()
}

/// Letters of a word that one piece takes: short words whole, long ones in parts of three to five.
fn part(text: &str) -> usize {
    let letters = text.chars().skip_while(|c| *c == ' ').take_while(|c| kind(*c) == Kind::Letter).count();
    match letters {
        0..=5 => 5,
        7 | 11 => 4,
        6 | 9 => 3,
        _ => 5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Vec<String> {
        pieces(text).map(|piece| String::from_utf8_lossy(piece).into_owned()).collect()
    }

    #[test]
    fn cutting_loses_nothing() {
        let hostile = " \n\n  \t- é\u{301}👩‍🚀\r\n\u{2028}空の上を手紙が通ります。Donaudampfschifffahrt \u{1b}[1mx\u{0}\u{1b}[0m 🌊🌊";
        for text in ["", "a", "\n", "🌍", hostile].into_iter().chain(crate::TEXTS.map(|(_, text)| text)) {
            let joined: Vec<u8> = pieces(text).flatten().copied().collect();
            assert_eq!(joined, text.as_bytes());
            assert!(pieces(text).all(|piece| !piece.is_empty()));
        }
    }

    #[test]
    fn pieces_are_as_short_as_tokens() {
        for (_, text) in crate::TEXTS {
            for piece in pieces(text) {
                let piece = String::from_utf8_lossy(piece);
                assert!(piece.chars().count() <= LONGEST, "{piece:?} is long");
            }
        }
    }

    #[test]
    fn pieces_look_like_tokens() {
        assert_eq!(of("A postbox passes"), ["A", " post", "box", " pas", "ses"]);
        assert_eq!(of("done.\n\n## Next"), ["done", ".", "\n\n", "##", " Next"]);
        assert_eq!(of("星が"), ["星", "が"]);
        assert_eq!(pieces("a🌍").collect::<Vec<_>>(), [b"a".as_slice(), b"\xf0\x9f", b"\x8c\x8d"]);
    }
}
