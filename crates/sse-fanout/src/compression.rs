//! Streams that are compressed for those who ask for it, each with its own history.
//!
//! What is compressed is flushed with every write, so that events are read as they come.

use std::io::{self, Write};
use std::str::FromStr;

use bytes::Bytes;
use flate2::write::ZlibEncoder;
use flate2::{Compress, Compression};
use http::header::{ACCEPT_ENCODING, HeaderMap, HeaderValue};
use zstd::stream::raw::CParameter;

/// How far back gzip looks for repetitions: 8 KiB, as a power of two. Messages of a run are much alike, so that the
/// last few dozen are all that helps; more would be memory of each viewer.
const GZIP_WINDOW: u8 = 13;
/// The same for zstd: 16 KiB.
const ZSTD_WINDOW: u32 = 14;
/// Levels that cost little: small writes leave little to be found.
const GZIP_LEVEL: u32 = 3;
const ZSTD_LEVEL: i32 = 1;

/// How a stream may be compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// RFC 8878.
    Zstd,
    /// RFC 1952.
    Gzip,
}

/// The encodings that are offered, the preferred one first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Encodings(Vec<Encoding>);

impl Encoding {
    /// Its name in HTTP.
    pub fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        }
    }
}

impl FromStr for Encodings {
    type Err = String;

    /// Names separated by commas; the one that does not exist is the error.
    fn from_str(text: &str) -> Result<Self, String> {
        let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
        let encodings = names.map(|name| {
            let all = [Encoding::Zstd, Encoding::Gzip];
            all.into_iter().find(|encoding| encoding.name() == name).ok_or_else(|| name.to_owned())
        });
        encodings.collect::<Result<_, _>>().map(Self)
    }
}

impl Encodings {
    /// Whether none is offered.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What to use for a client (RFC 9110 §12.5.3): what it prefers, and of what it likes equally what
    /// stands first here. None: nothing is compressed.
    pub fn choose(&self, headers: &HeaderMap) -> Option<Encoding> {
        if self.is_empty() {
            return None;
        }
        let values = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
        let accepted: Vec<(&str, f32)> = values.flat_map(|value| value.split(',')).map(item).collect();
        let weight = |name: &str| {
            let of =
                |name: &str| accepted.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, q)| *q);
            of(name).or_else(|| of("*")).unwrap_or(0.0)
        };
        let named = accepted.iter().any(|(name, _)| name.eq_ignore_ascii_case("identity"));
        let plain = if named { weight("identity") } else { 0.0 };
        let mut best = None;
        for encoding in &self.0 {
            let weight = weight(encoding.name());
            if weight > 0.0 && weight >= plain && best.is_none_or(|(_, most)| weight > most) {
                best = Some((*encoding, weight));
            }
        }
        best.map(|(encoding, _)| encoding)
    }
}

/// A name and its weight; one that cannot be read is not wanted.
fn item(text: &str) -> (&str, f32) {
    let (name, parameters) = text.split_once(';').unwrap_or((text, ""));
    let weight = match parameters.trim().split_once('=') {
        Some((q, value)) if q.trim().eq_ignore_ascii_case("q") => value.trim().parse().unwrap_or(0.0),
        _ => 1.0,
    };
    (name.trim(), weight)
}

/// Compresses one viewer's stream.
pub enum Encoder {
    /// With a window of 16 KiB.
    Zstd(Box<zstd::Encoder<'static, Vec<u8>>>),
    /// With a window of 8 KiB.
    Gzip(Box<ZlibEncoder<Vec<u8>>>),
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.encoding().name())
    }
}

impl Encoder {
    /// One at the beginning of its stream.
    ///
    /// # Errors
    /// If there is no memory for it.
    pub fn new(encoding: Encoding) -> io::Result<Self> {
        Ok(match encoding {
            Encoding::Zstd => {
                let mut encoder = zstd::Encoder::new(Vec::new(), ZSTD_LEVEL)?;
                encoder.set_parameter(CParameter::WindowLog(ZSTD_WINDOW))?;
                encoder.set_parameter(CParameter::HashLog(ZSTD_WINDOW - 2))?;
                Self::Zstd(Box::new(encoder))
            }
            Encoding::Gzip => {
                let compress = Compress::new_gzip(Compression::new(GZIP_LEVEL), GZIP_WINDOW);
                Self::Gzip(Box::new(ZlibEncoder::new_with_compress(Vec::new(), compress)))
            }
        })
    }

    /// What it makes.
    pub fn encoding(&self) -> Encoding {
        match self {
            Self::Zstd(_) => Encoding::Zstd,
            Self::Gzip(_) => Encoding::Gzip,
        }
    }

    /// Compresses some bytes so that the reader has all of them.
    ///
    /// # Errors
    /// If the library fails.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<Bytes> {
        let out = match self {
            Self::Zstd(encoder) => {
                encoder.write_all(bytes)?;
                encoder.flush()?;
                encoder.get_mut()
            }
            Self::Gzip(encoder) => {
                encoder.write_all(bytes)?;
                encoder.flush()?;
                encoder.get_mut()
            }
        };
        Ok(std::mem::take(out).into())
    }

    /// What ends the stream.
    ///
    /// # Errors
    /// If the library fails.
    pub fn finish(self) -> io::Result<Bytes> {
        let out = match self {
            Self::Zstd(encoder) => encoder.finish()?,
            Self::Gzip(encoder) => encoder.finish()?,
        };
        Ok(out.into())
    }
}

impl From<Encoding> for HeaderValue {
    fn from(encoding: Encoding) -> Self {
        Self::from_static(encoding.name())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn chosen(offered: &str, accepted: &str) -> Option<&'static str> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT_ENCODING, accepted.parse().unwrap());
        offered.parse::<Encodings>().unwrap().choose(&headers).map(Encoding::name)
    }

    #[test]
    fn the_clients_weights_count_and_then_our_order() {
        for (accepted, expected) in [
            ("gzip, deflate, br, zstd", Some("zstd")),
            ("gzip, zstd;q=0.5", Some("gzip")),
            ("GZIP;Q=0.5, zstd;q=0", Some("gzip")),
            ("*", Some("zstd")),
            ("*;q=0.1, zstd;q=0", Some("gzip")),
            ("identity, gzip;q=0.5", None),
            ("identity;q=0.1, gzip;q=0.5", Some("gzip")),
            ("br", None),
            ("gzip;q=nonsense", None),
            ("", None),
        ] {
            assert_eq!(chosen("zstd, gzip", accepted), expected, "{accepted}");
        }
        assert_eq!(chosen("", "gzip"), None);
        assert_eq!(chosen("gzip,zstd", "gzip, zstd"), Some("gzip"));
        assert_eq!("gzip,br".parse::<Encodings>().unwrap_err(), "br");
    }

    #[test]
    fn every_write_can_be_read_at_once_and_the_end_is_clean() {
        for encoding in [Encoding::Zstd, Encoding::Gzip] {
            let mut encoder = Encoder::new(encoding).unwrap();
            let (mut plain, mut sent) = (Vec::new(), Vec::new());
            for number in 0..2000 {
                let text = format!("id: a:{number}\nevent: output\ndata: {{\"sequence\":{number}}}\n\n");
                plain.extend_from_slice(text.as_bytes());
                sent.extend_from_slice(&encoder.write(text.as_bytes()).unwrap());
                if number % 500 == 0 {
                    assert_eq!(read(encoding, &sent).0, plain);
                }
            }
            assert!(sent.len() * 2 < plain.len(), "{}", sent.len());
            sent.extend_from_slice(&encoder.finish().unwrap());
            let (seen, is_clean) = read(encoding, &sent);
            assert!(is_clean && seen == plain);
        }
    }

    /// What a client makes of what it has so far, and whether it takes it for the whole.
    fn read(encoding: Encoding, sent: &[u8]) -> (Vec<u8>, bool) {
        let mut reader: Box<dyn Read> = match encoding {
            Encoding::Zstd => Box::new(zstd::Decoder::new(sent).unwrap()),
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
}
