//! One viewer's compressed stream, put together of passages. Pure.

use bytes::Bytes;
use flate2::Crc;

use crate::compression::Encoding;
use crate::compression::passage::{BR_WINDOW, Piece};

/// gzip's header (RFC 1952 §2.3.1): deflate, no name, no time, unknown system.
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
/// An empty last block (RFC 1951 §3.2.6).
const GZIP_END: [u8; 2] = [3, 0];
/// An empty last raw block (RFC 8878 §3.1.1.2): passages are frames, whose ends nobody else writes.
const ZSTD_FRAME_END: [u8; 3] = [1, 0, 0];
/// The window's size and an empty metadata block, which fills the byte up (RFC 7932 §9.1, §9.2).
const BR_HEADER: [u8; 1] = [0b0000_1100];
const _: () = assert!(BR_WINDOW == 16, "a zero bit, the header's first, says 16");
/// An empty last block.
const BR_END: [u8; 1] = [3];

/// One viewer's compressed stream.
#[derive(Debug)]
pub struct Stitch {
    encoding: Encoding,
    has_begun: bool,
    check: Crc,
}

impl Stitch {
    /// An empty stream.
    pub fn new(encoding: Encoding) -> Self {
        Self { encoding, has_begun: false, check: Crc::new() }
    }

    /// What is compressed how.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// What to send for a piece: the next one of the last piece's passage, or the first of any.
    pub fn add(&mut self, piece: &Piece) -> Bytes {
        let is_first = !std::mem::replace(&mut self.has_begun, true);
        debug_assert!(piece.begins || !is_first, "a passage is read from its beginning");
        self.check.combine(&piece.check);
        let between: &[u8] = match self.encoding {
            Encoding::Gzip if is_first => &GZIP_HEADER,
            Encoding::Br if is_first => &BR_HEADER,
            Encoding::Zstd if piece.begins && !is_first => &ZSTD_FRAME_END,
            // The common case: the bytes are shared by all.
            Encoding::Gzip | Encoding::Br | Encoding::Zstd => return piece.bytes.clone(),
        };
        [between, &piece.bytes].concat().into()
    }

    /// What ends the stream.
    pub fn finish(self) -> Bytes {
        match self.encoding {
            // Nothing at all is nothing to every reader.
            _ if !self.has_begun => Bytes::new(),
            Encoding::Zstd => Bytes::from_static(&ZSTD_FRAME_END),
            Encoding::Br => Bytes::from_static(&BR_END),
            Encoding::Gzip => {
                let (sum, length) = (self.check.sum().to_le_bytes(), self.check.amount().to_le_bytes());
                [&GZIP_END[..], &sum, &length].concat().into()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use proptest::prelude::*;

    use super::*;
    use crate::compression::passage::Passage;

    /// What a client makes of what it has so far, and whether it takes it for the whole.
    fn read(encoding: Encoding, sent: &[u8]) -> (Vec<u8>, bool) {
        let mut reader: Box<dyn Read> = match encoding {
            Encoding::Zstd => Box::new(zstd::Decoder::new(sent).unwrap()),
            Encoding::Br => Box::new(brotli::Decompressor::new(sent, 512)),
            Encoding::Gzip => Box::new(flate2::read::GzDecoder::new(sent)),
        };
        let (mut seen, mut buffer) = (Vec::new(), [0; 512]);
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => return (seen, true),
                Ok(length) => seen.extend_from_slice(&buffer[..length]),
                Err(_) => return (seen, false),
            }
        }
    }

    proptest! {
        #[test]
        fn a_stream_of_passages_reads_as_one(
            texts in prop::collection::vec(("[a-c]{1,8}", 1_usize..400, 0..4_u8), 1..60),
            which in 0..3_usize,
        ) {
            let encoding = Encoding::ALL[which];
            let mut stitch = Stitch::new(encoding);
            let mut passage = Passage::new(encoding).unwrap();
            let (mut plain, mut sent) = (Vec::new(), Vec::new());
            for (text, times, turn) in texts {
                if turn == 0 {
                    passage = Passage::new(encoding).unwrap();
                }
                let text = text.repeat(times);
                plain.extend_from_slice(text.as_bytes());
                sent.extend_from_slice(&stitch.add(&passage.write(text.as_bytes()).unwrap()));
                // All can be read at once.
                prop_assert_eq!(&read(encoding, &sent).0, &plain);
            }
            sent.extend_from_slice(&stitch.finish());
            prop_assert_eq!(read(encoding, &sent), (plain, true));
        }
    }

    #[test]
    fn a_passage_compresses_what_is_alike() {
        for encoding in Encoding::ALL {
            let (mut stitch, mut passage) = (Stitch::new(encoding), Passage::new(encoding).unwrap());
            let (mut plain, mut sent) = (0, 0);
            for number in 0..2000 {
                let text = format!(
                    "id: a:{number}\nevent: output\ndata: {{\"run_id\":\"run-abc123\",\"variation_id\":\"var-1\",\
                     \"sequence\":{number},\"type\":\"output\",\"content\":\"a word\",\"metadata\":{{}}}}\n\n"
                );
                plain += text.len();
                sent += stitch.add(&passage.write(text.as_bytes()).unwrap()).len();
            }
            assert!(sent * 2 < plain, "{encoding:?}: {sent} of {plain}");
        }
    }
}
