//! The joined text of many output messages, as stream entries of snapshots carry it: a zstd frame.

use std::io::Read;

use bytes::Bytes;

/// Most bytes of text that one entry may hold: far above what is written.
const MAX_BYTES: u64 = 64 << 20;

/// Compresses a text.
///
/// # Errors
/// If there is no memory for it.
pub fn pack(text: &str) -> std::io::Result<Bytes> {
    zstd::bulk::compress(text.as_bytes(), 3).map(Bytes::from)
}

/// Reads what [`pack`] wrote.
///
/// # Errors
/// If it is something else, or more than 64 MiB.
pub fn unpack(packed: &[u8]) -> std::io::Result<String> {
    let mut text = String::new();
    zstd::Decoder::new(packed)?.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(std::io::Error::other("more than 64 MiB"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_survive_and_what_is_none_is_told() {
        let text = "é🚀\n".repeat(1000);
        assert_eq!(unpack(&pack(&text).unwrap()).unwrap(), text);
        assert_eq!(unpack(&pack("").unwrap()).unwrap(), "");
        for bad in [&b"text"[..], &b"\x28\xb5\x2f\xfd"[..], &zstd::bulk::compress(b"\xff", 1).unwrap()] {
            assert!(unpack(bad).is_err());
        }
        let bomb = zstd::bulk::compress(&vec![b'a'; 65 << 20], 1).unwrap();
        assert!(unpack(&bomb).is_err());
    }
}
