//! Part of a compressed stream that can be read whatever stands before it: nothing in it refers to anything
//! outside.

use std::io::{self, Write as _};
use std::sync::Arc;

use brotli::enc::StandardAlloc;
use brotli::enc::encode::{
    BrotliEncoderOperation, BrotliEncoderParameter as Parameter, BrotliEncoderStateStruct,
};
use bytes::Bytes;
use flate2::{Compress, Compression, Crc, FlushCompress, Status};
use zstd::stream::raw::CParameter;

use crate::compression::Encoding;

/// How far back gzip looks for repetitions: 8 KiB, as a power of two. Messages of a run are much alike, so that the
/// last few dozen are all that helps; more would be memory of each passage.
const GZIP_WINDOW: u8 = 13;
/// The same for zstd: 16 KiB.
const ZSTD_WINDOW: u32 = 14;
/// The same for brotli, which knows no less: 64 KiB. [`stitch`](super::stitch) writes it into a stream's header.
pub(super) const BR_WINDOW: u32 = 16;
/// Levels that cost little: small writes leave little to be found.
const GZIP_LEVEL: u32 = 3;
const ZSTD_LEVEL: i32 = 1;
const BR_LEVEL: u32 = 2;

/// Room for what a write comes to; there is more if it is needed.
const ROOM: usize = 256;

/// What one write has come to.
#[derive(Debug, Clone)]
pub struct Piece {
    /// Whether a passage begins with it.
    pub begins: bool,
    /// What goes out.
    pub bytes: Bytes,
    /// Of the plain bytes: gzip's end tells that of all.
    pub check: Arc<Crc>,
}

/// Compresses a passage, piece by piece.
pub struct Passage {
    encoder: Encoder,
    has_begun: bool,
    written: usize,
}

enum Encoder {
    Zstd(Box<zstd::Encoder<'static, Vec<u8>>>),
    Br(Box<BrotliEncoderStateStruct<StandardAlloc>>),
    Gzip(Compress),
}

impl std::fmt::Debug for Passage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Passage").field("written", &self.written).finish_non_exhaustive()
    }
}

impl Passage {
    /// One at its beginning.
    ///
    /// # Errors
    /// If there is no memory for it.
    pub fn new(encoding: Encoding) -> io::Result<Self> {
        let encoder = match encoding {
            Encoding::Zstd => {
                let mut encoder = zstd::Encoder::new(Vec::new(), ZSTD_LEVEL)?;
                encoder.set_parameter(CParameter::WindowLog(ZSTD_WINDOW))?;
                encoder.set_parameter(CParameter::HashLog(ZSTD_WINDOW - 2))?;
                Encoder::Zstd(Box::new(encoder))
            }
            Encoding::Br => {
                let mut state = BrotliEncoderStateStruct::new(StandardAlloc::default());
                let parameters = [
                    (Parameter::BROTLI_PARAM_QUALITY, BR_LEVEL),
                    (Parameter::BROTLI_PARAM_LGWIN, BR_WINDOW),
                    // To be put behind something else, without header and end.
                    (Parameter::BROTLI_PARAM_CATABLE, 1),
                    (Parameter::BROTLI_PARAM_BARE_STREAM, 1),
                ];
                for (parameter, value) in parameters {
                    state.set_parameter(parameter, value);
                }
                Encoder::Br(Box::new(state))
            }
            Encoding::Gzip => {
                let level = Compression::new(GZIP_LEVEL);
                Encoder::Gzip(Compress::new_with_window_bits(level, false, GZIP_WINDOW))
            }
        };
        Ok(Self { encoder, has_begun: false, written: 0 })
    }

    /// Plain bytes so far.
    pub fn written(&self) -> usize {
        self.written
    }

    /// Compresses some bytes so that the reader has all of them.
    ///
    /// # Errors
    /// If the library fails.
    pub fn write(&mut self, plain: &[u8]) -> io::Result<Piece> {
        let bytes = match &mut self.encoder {
            Encoder::Zstd(encoder) => {
                encoder.write_all(plain)?;
                encoder.flush()?;
                std::mem::take(encoder.get_mut())
            }
            Encoder::Br(state) => brotli(state, plain)?,
            Encoder::Gzip(compress) => deflate(compress, plain)?,
        };
        self.written += plain.len();
        let begins = !std::mem::replace(&mut self.has_begun, true);
        let mut check = Crc::new();
        check.update(plain);
        Ok(Piece { begins, bytes: bytes.into(), check: Arc::new(check) })
    }
}

fn brotli(state: &mut BrotliEncoderStateStruct<StandardAlloc>, plain: &[u8]) -> io::Result<Vec<u8>> {
    let (mut bytes, mut filled) = (vec![0; plain.len() / 2 + ROOM], 0);
    let (mut left, mut read) = (plain.len(), 0);
    loop {
        let mut room = bytes.len() - filled;
        let done = state.compress_stream(
            BrotliEncoderOperation::BROTLI_OPERATION_FLUSH,
            &mut left,
            plain,
            &mut read,
            &mut room,
            &mut bytes,
            &mut filled,
            &mut None,
            &mut |_, _, _, _| (),
        );
        if !done {
            return Err(io::Error::other("brotli cannot compress this"));
        }
        if left == 0 && !state.has_more_output() {
            bytes.truncate(filled);
            return Ok(bytes);
        }
        bytes.resize(bytes.len() * 2, 0);
    }
}

fn deflate(compress: &mut Compress, plain: &[u8]) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(plain.len() / 2 + ROOM);
    let before = compress.total_in();
    loop {
        let read = usize::try_from(compress.total_in() - before).unwrap_or(plain.len());
        let status = compress.compress_vec(&plain[read..], &mut bytes, FlushCompress::Sync)?;
        // All is out only if there was room for more.
        if bytes.len() < bytes.capacity() {
            return Ok(bytes);
        }
        if status == Status::StreamEnd {
            return Err(io::Error::other("deflate has ended"));
        }
        bytes.reserve(bytes.capacity());
    }
}
