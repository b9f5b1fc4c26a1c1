//! The batch: the messages of one append of one lane, one JSON object a line, perhaps compressed.
//! The same bytes are the stream entry's field and the pub/sub payload.

use std::io::Read;

use bytes::Bytes;

use crate::{Lane, MessageError, MessageHead, Sequence};

/// How a zstd frame begins (RFC 8878 §3.1.1); JSON never does.
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Most bytes a batch may take once decompressed: above the largest batch a sidecar writes, far
/// below what a decompression bomb would need.
const MAX_BYTES: usize = 16 << 20;

/// A frame that wants a larger window than [`MAX_BYTES`] (2^24) would take that much memory whatever it
/// holds.
const WINDOW_LOG: u32 = 24;

/// Why a payload is not a batch.
#[derive(Debug, thiserror::Error)]
pub enum BatchError {
    /// It begins like zstd but is not.
    #[error("batch is not a zstd frame: {0}")]
    Zstd(std::io::Error),
    /// It would take more than 16 MiB.
    #[error("batch takes more than {MAX_BYTES} bytes")]
    TooLarge,
    /// A line is not a message.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// A message's writer is neither a variation nor the control-plane.
    #[error("batch names no lane: {0}")]
    Lane(#[from] crate::InvalidLane),
    /// Messages of several lanes, or not numbered one after the other from 1 on.
    #[error("batch does not hold consecutive messages of one lane")]
    NotConsecutive,
    /// Nothing in it.
    #[error("batch is empty")]
    Empty,
}

/// One message of a batch: its number, whom it is about, its bytes as they came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its number in the batch's lane.
    pub sequence: Sequence,
    /// The variation that it is about.
    pub variation: crate::VariationId,
    /// The message: JSON on one line, no line end.
    pub line: Bytes,
}

impl Entry {
    /// The time that it bears; none if that does not stand first, as our writers put it.
    pub fn time(&self) -> Option<jiff::Timestamp> {
        let rest = self.line.strip_prefix(br#"{"timestamp":""#)?;
        let end = rest.iter().take(40).position(|byte| *byte == b'"')?;
        std::str::from_utf8(&rest[..end]).ok()?.parse().ok()
    }

    /// The text that it says, if it is output.
    pub fn text(&self) -> Option<String> {
        #[derive(serde::Deserialize)]
        struct Content {
            content: String,
        }
        Some(serde_json::from_slice::<Content>(&self.line).ok()?.content)
    }
}

/// The consecutive messages of one lane that were appended at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The lane of all of them.
    pub lane: Lane,
    /// The messages, at least one.
    pub entries: Vec<Entry>,
}

impl Batch {
    /// Reads a stream entry's field or a pub/sub payload. The lines share the payload's memory.
    ///
    /// # Errors
    /// [`BatchError`] if it is not consecutive messages of one lane, or too large decompressed.
    pub fn parse(payload: Bytes) -> Result<Self, BatchError> {
        let text = decompress(payload)?;
        let mut batch: Option<Self> = None;
        let mut start = 0;
        for line in text.split(|&b| b == b'\n') {
            let range = start..start + line.len();
            start = range.end + 1;
            let head = MessageHead::parse(line)?;
            let (sequence, channel, writer) = (head.sequence, head.kind.channel(), head.writer());
            let batch = match &mut batch {
                Some(batch) => {
                    let same = batch.lane.channel == channel && batch.lane.writer.as_str() == writer;
                    // The largest sequence is its own successor.
                    let follows = sequence > batch.last() && sequence == batch.last().next();
                    if !same || !follows {
                        return Err(BatchError::NotConsecutive);
                    }
                    batch
                }
                None if sequence == Sequence::NONE => return Err(BatchError::NotConsecutive),
                None => {
                    let lane = Lane { channel, writer: writer.parse()? };
                    batch.insert(Self { lane, entries: Vec::new() })
                }
            };
            let variation = match batch.lane.writer.variation() {
                Some(own) if own.as_str() == head.variation() => own.clone(),
                _ => head.variation().parse().map_err(crate::InvalidLane::from)?,
            };
            batch.entries.push(Entry { sequence, variation, line: text.slice(range) });
        }
        batch.ok_or(BatchError::Empty)
    }

    /// Sequence of the first message.
    pub fn first(&self) -> Sequence {
        self.entries.first().map_or(Sequence::NONE, |entry| entry.sequence)
    }

    /// Sequence of the last message.
    pub fn last(&self) -> Sequence {
        self.entries.last().map_or(Sequence::NONE, |entry| entry.sequence)
    }
}

fn decompress(payload: Bytes) -> Result<Bytes, BatchError> {
    if !payload.starts_with(&ZSTD_MAGIC) {
        return if payload.len() > MAX_BYTES { Err(BatchError::TooLarge) } else { Ok(payload) };
    }
    let mut decoder = zstd::Decoder::new(&payload[..]).map_err(BatchError::Zstd)?;
    decoder.window_log_max(WINDOW_LOG).map_err(BatchError::Zstd)?;
    let mut text = Vec::new();
    decoder.take(MAX_BYTES as u64 + 1).read_to_end(&mut text).map_err(BatchError::Zstd)?;
    if text.len() > MAX_BYTES { Err(BatchError::TooLarge) } else { Ok(text.into()) }
}

/// Puts lines together into a batch.
#[derive(Debug, Default)]
pub struct BatchWriter {
    text: Vec<u8>,
}

impl BatchWriter {
    /// Adds a message's line.
    pub fn push(&mut self, line: &[u8]) {
        debug_assert!(!line.contains(&b'\n'), "a message is one line");
        if !self.text.is_empty() {
            self.text.push(b'\n');
        }
        self.text.extend_from_slice(line);
    }

    /// The lines so far.
    pub fn lines(&self) -> impl Iterator<Item = &[u8]> {
        self.text.split(|byte| *byte == b'\n')
    }

    /// Bytes so far, uncompressed.
    pub fn len(&self) -> usize {
        self.text.len()
    }

    /// Whether nothing was added yet.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// The payload; a zstd frame if it has more than `compress_above` bytes and that makes it smaller.
    pub fn finish(self, compress_above: usize) -> Bytes {
        if self.text.len() > compress_above
            && let Ok(frame) = zstd::bulk::compress(&self.text, 1)
            && frame.len() < self.text.len()
        {
            return frame.into();
        }
        self.text.into()
    }
}
