//! Pieces of an HTTP/1.1 body as chunks (RFC 9112 §7.1). Pure.

use bytes::Bytes;

/// The chunk that ends a body.
pub const LAST: &[u8] = b"0\r\n\r\n";

/// Bytes kept free before the data for a chunk's size: 16 hexadecimal digits and CRLF.
const ROOM: usize = 18;

/// A buffer that data is written into, with room for what makes a chunk of it.
#[derive(Debug)]
pub struct ChunkBuffer(Vec<u8>);

impl ChunkBuffer {
    /// An empty one, with room for `capacity` bytes of data.
    pub fn new(capacity: usize) -> Self {
        let mut buffer = Vec::with_capacity(ROOM + capacity + 2);
        buffer.resize(ROOM, 0);
        Self(buffer)
    }

    /// Where the data is appended.
    pub fn data(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }

    /// Bytes of data so far.
    pub fn len(&self) -> usize {
        self.0.len() - ROOM
    }

    /// Whether there is no data. A chunk of none would end the body.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The data as a chunk, and the data in it alone: two looks at the same bytes.
    pub fn finish(mut self) -> (Bytes, Bytes) {
        let length = self.len();
        let size = size(length);
        let start = ROOM - size.len();
        self.0[start..ROOM].copy_from_slice(size.as_bytes());
        self.0.extend_from_slice(b"\r\n");
        let whole = Bytes::from(self.0);
        (whole.slice(start..), whole.slice(ROOM..ROOM + length))
    }
}

/// What stands before a chunk of `length` bytes; CRLF stands after it.
pub fn size(length: usize) -> String {
    format!("{length:x}\r\n")
}

/// The data as a chunk.
pub fn chunk(data: &[u8]) -> Bytes {
    let mut buffer = ChunkBuffer::new(data.len());
    buffer.data().extend_from_slice(data);
    buffer.finish().0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_its_size_and_its_data() {
        for length in [1, 15, 16, 255, 256, 70_000] {
            let data = vec![b'x'; length];
            let mut buffer = ChunkBuffer::new(0);
            buffer.data().extend_from_slice(&data);
            assert_eq!(buffer.len(), length);
            let (whole, inside) = buffer.finish();
            assert_eq!(inside, data);
            assert_eq!(whole, [format!("{length:x}\r\n").as_bytes(), &data, b"\r\n"].concat());
            assert_eq!(chunk(&data), whole);
        }
    }
}
