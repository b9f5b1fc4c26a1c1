//! How the journal's entries look as bytes. Pure.
//!
//! A segment is [`MAGIC`] and then entries, each of them framed: length of the body (u32), CRC-32 of
//! length and body (u32), body. The body is the kind (u8), the channel (u8) and what the kind says.
//! All numbers are little-endian.

use runcast_protocol::{Channel, RunId, Sequence, VariationId};

/// How each segment begins; its last four bytes are the format's version.
pub(super) const MAGIC: [u8; 12] = *b"RUNCASTJ\x01\0\0\0";

/// How many lanes the journal knows, one for each channel.
pub(super) const LANES: usize = Channel::ALL.len();

const PREFIX: usize = 8;
const NO_ORIGIN: u64 = u64::MAX;

mod kind {
    pub(super) const HEAD: u8 = 1;
    pub(super) const MESSAGE: u8 = 2;
    pub(super) const ORIGIN: u8 = 3;
    pub(super) const SAFE: u8 = 4;
}

/// What the journal notes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry<'a> {
    /// The first of each segment.
    Head(Head),
    /// A message that was accepted; `at` in microseconds since 1970.
    Message { channel: Channel, at: u64, line: &'a [u8] },
    /// The lane stood at `last` before its first message.
    Origin { channel: Channel, last: Sequence },
    /// The lane's first `count` messages are safe.
    Safe { channel: Channel, count: u64 },
    /// Of a later version, which knows that older ones skip it.
    Unknown,
}

/// Whose journal it is, and all that earlier segments said and that still counts: they can be deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) run: RunId,
    pub(super) variation: VariationId,
    /// By [`index`].
    pub(super) lanes: [Marks; LANES],
}

/// Where a lane stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Marks {
    /// Where it stood in Redis before its first message; none before the claim.
    pub(super) origin: Option<Sequence>,
    /// How many messages were noted.
    pub(super) taken: u64,
    /// How many of them are safe.
    pub(super) safe: u64,
}

/// A channel's place in arrays.
pub(super) fn index(channel: Channel) -> usize {
    channel_code(channel) as usize - 1
}

/// The bytes of a message's entry that are not its line.
pub(super) const MESSAGE_OVERHEAD: usize = PREFIX + 2 + 8;

impl Entry<'_> {
    /// Adds the entry's frame to `out`. The entry's line must be shorter than 4 GiB.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend([0; PREFIX]);
        match self {
            Self::Head(head) => {
                out.extend([kind::HEAD, 0]);
                head.encode(out);
            }
            Self::Message { channel, at, line } => {
                out.extend([kind::MESSAGE, channel_code(*channel)]);
                out.extend(at.to_le_bytes());
                out.extend_from_slice(line);
            }
            Self::Origin { channel, last } => {
                out.extend([kind::ORIGIN, channel_code(*channel)]);
                out.extend(last.get().to_le_bytes());
            }
            Self::Safe { channel, count } => {
                out.extend([kind::SAFE, channel_code(*channel)]);
                out.extend(count.to_le_bytes());
            }
            Self::Unknown => out.extend([u8::MAX, 0]),
        }
        let length = u32::try_from(out.len() - start - PREFIX).expect("entries are below 4 GiB");
        out[start..start + 4].copy_from_slice(&length.to_le_bytes());
        let crc = checksum(length, &out[start + PREFIX..]);
        out[start + 4..start + PREFIX].copy_from_slice(&crc.to_le_bytes());
    }
}

/// The entry with which `bytes` begin, and its frame's length; none if they begin with no sound entry.
pub(super) fn decode(bytes: &[u8]) -> Option<(Entry<'_>, usize)> {
    let mut rest = Fields(bytes);
    let (length, crc) = (rest.u32()?, rest.u32()?);
    let body = rest.0.get(..usize::try_from(length).ok()?)?;
    // A file full of zeros must not pass for entries without a body.
    if body.len() < 2 || checksum(length, body) != crc {
        return None;
    }
    Some((decode_body(body).unwrap_or(Entry::Unknown), PREFIX + body.len()))
}

fn decode_body(body: &[u8]) -> Option<Entry<'_>> {
    let mut fields = Fields(body);
    let (kind, channel) = (fields.u8()?, fields.u8()?);
    if kind == kind::HEAD {
        return Head::decode(fields).map(Entry::Head);
    }
    let channel = channel_of(channel)?;
    let number = fields.u64()?;
    match kind {
        kind::MESSAGE => Some(Entry::Message { channel, at: number, line: fields.0 }),
        kind::ORIGIN => Some(Entry::Origin { channel, last: Sequence::new(number).ok()? }),
        kind::SAFE => Some(Entry::Safe { channel, count: number }),
        _ => None,
    }
}

impl Head {
    fn encode(&self, out: &mut Vec<u8>) {
        for id in [self.run.as_str(), self.variation.as_str()] {
            out.push(u8::try_from(id.len()).expect("identifiers have at most 128 bytes"));
            out.extend(id.as_bytes());
        }
        for (channel, lane) in Channel::ALL.into_iter().map(|channel| (channel, &self.lanes[index(channel)]))
        {
            out.push(channel_code(channel));
            for number in [lane.origin.map_or(NO_ORIGIN, Sequence::get), lane.taken, lane.safe] {
                out.extend(number.to_le_bytes());
            }
        }
    }

    fn decode(mut fields: Fields<'_>) -> Option<Self> {
        let run = RunId::new(fields.text()?).ok()?;
        let variation = VariationId::new(fields.text()?).ok()?;
        let mut lanes = [Marks::default(); LANES];
        while let Some(channel) = fields.u8() {
            let (origin, taken, safe) = (fields.u64()?, fields.u64()?, fields.u64()?);
            if let Some(channel) = channel_of(channel) {
                lanes[index(channel)] = Marks { origin: Sequence::new(origin).ok(), taken, safe };
            }
        }
        Some(Self { run, variation, lanes })
    }
}

// Written to disk: never change one.
fn channel_code(channel: Channel) -> u8 {
    match channel {
        Channel::Output => 1,
        Channel::Logs => 2,
        Channel::Status => 3,
        Channel::Metrics => 4,
        Channel::Control => 5,
        Channel::Acks => 6,
    }
}

fn channel_of(code: u8) -> Option<Channel> {
    Channel::ALL.into_iter().find(|&channel| channel_code(channel) == code)
}

// The length is covered too: changed, it would make any bytes that follow pass for a torn end.
fn checksum(length: u32, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&length.to_le_bytes());
    hasher.update(body);
    hasher.finalize()
}

struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*field)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take().map(u8::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = self.u8()?;
        let (text, rest) = self.0.split_at_checked(length.into())?;
        self.0 = rest;
        std::str::from_utf8(text).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(entry: &Entry<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        entry.encode(&mut bytes);
        bytes
    }

    fn head() -> Head {
        let mut lanes = [Marks::default(); LANES];
        lanes[index(Channel::Logs)] =
            Marks { origin: Some(Sequence::new(7).unwrap()), taken: 1 << 40, safe: 3 };
        Head { run: RunId::new("run-1").unwrap(), variation: VariationId::new("v").unwrap(), lanes }
    }

    #[test]
    fn every_kind_comes_back_as_it_was() {
        for entry in [
            Entry::Head(head()),
            Entry::Message { channel: Channel::Acks, at: 1, line: b"{}" },
            Entry::Message { channel: Channel::Output, at: u64::MAX, line: b"" },
            Entry::Origin { channel: Channel::Status, last: Sequence::MAX },
            Entry::Safe { channel: Channel::Metrics, count: 12 },
            Entry::Unknown,
        ] {
            let bytes = frame(&entry);
            assert_eq!(decode(&bytes), Some((entry, bytes.len())));
        }
    }

    #[test]
    fn a_messages_overhead_is_as_said() {
        let entry = Entry::Message { channel: Channel::Output, at: 0, line: b"12345" };
        assert_eq!(frame(&entry).len(), MESSAGE_OVERHEAD + 5);
    }

    #[test]
    fn neither_zeros_nor_a_part_nor_a_changed_bit_passes() {
        assert_eq!(decode(&[0; 64]), None);
        for entry in [Entry::Head(head()), Entry::Safe { channel: Channel::Logs, count: 12 }] {
            let sound = frame(&entry);
            for length in 0..sound.len() {
                assert_eq!(decode(&sound[..length]), None);
            }
            for bit in 0..sound.len() * 8 {
                let mut bytes = sound.clone();
                bytes[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(decode(&bytes), None);
            }
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            decode(&bytes);
            decode_body(&bytes);
        }

        #[test]
        fn a_message_comes_back_whatever_follows(line: Vec<u8>, at: u64, after: Vec<u8>) {
            let entry = Entry::Message { channel: Channel::Logs, at, line: &line };
            let mut bytes = frame(&entry);
            let length = bytes.len();
            bytes.extend(after);
            prop_assert_eq!(decode(&bytes), Some((entry, length)));
        }
    }
}
