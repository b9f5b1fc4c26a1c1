//! Text out of bytes that come in pieces.

/// Decodes UTF-8 piece by piece. The pieces of text put together are what
/// [`String::from_utf8_lossy`] makes of all the bytes at once: a character split between two pieces
/// waits (at most three bytes) until it is complete, invalid bytes become U+FFFD.
#[derive(Debug, Default)]
pub struct Utf8Decoder {
    /// The beginning of a character.
    pending: Vec<u8>,
}

impl Utf8Decoder {
    /// The text that `bytes` completes.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        if self.pending.is_empty() {
            return self.decode(bytes);
        }
        let mut joined = std::mem::take(&mut self.pending);
        joined.extend_from_slice(bytes);
        self.decode(&joined)
    }

    /// What is left at the end: U+FFFD if a character was begun and never completed.
    pub fn finish(&mut self) -> String {
        if std::mem::take(&mut self.pending).is_empty() { String::new() } else { "\u{fffd}".to_owned() }
    }

    fn decode(&mut self, mut bytes: &[u8]) -> String {
        let mut text = String::with_capacity(bytes.len());
        loop {
            match std::str::from_utf8(bytes) {
                Ok(valid) => {
                    text.push_str(valid);
                    return text;
                }
                Err(error) => {
                    let (valid, rest) = bytes.split_at(error.valid_up_to());
                    text.push_str(std::str::from_utf8(valid).expect("valid up to here"));
                    let Some(invalid) = error.error_len() else {
                        self.pending = rest.to_vec();
                        return text;
                    };
                    text.push('\u{fffd}');
                    bytes = &rest[invalid..];
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode_in_pieces(bytes: &[u8], cuts: &[usize]) -> String {
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let mut decoder = Utf8Decoder::default();
        let mut text = String::new();
        for range in cuts.windows(2) {
            text += &decoder.push(&bytes[range[0]..range[1]]);
            assert!(decoder.pending.len() <= 3, "more than a character was held back");
        }
        text + &decoder.finish()
    }

    /// Bytes in which characters, pieces of characters and rubbish are about equally common.
    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            any::<char>().prop_map(|c| c.to_string().into_bytes()),
            any::<char>().prop_map(|c| c.to_string().into_bytes()[..1].to_vec()),
            proptest::collection::vec(any::<u8>(), 0..4),
            Just("🚀é\u{2028}\r\n".as_bytes().to_vec()),
            Just(b"\xed\xa0\x80\xf4\x90\x80\x80\xc0\xaf".to_vec()),
        ];
        proptest::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn pieces_decode_as_the_whole_does(bytes in bytes(), cuts in proptest::collection::vec(any::<usize>(), 0..24)) {
            prop_assert_eq!(decode_in_pieces(&bytes, &cuts), String::from_utf8_lossy(&bytes));
        }

        #[test]
        fn byte_by_byte_too(bytes in bytes()) {
            let cuts: Vec<_> = (0..bytes.len()).collect();
            prop_assert_eq!(decode_in_pieces(&bytes, &cuts), String::from_utf8_lossy(&bytes));
        }
    }
}
