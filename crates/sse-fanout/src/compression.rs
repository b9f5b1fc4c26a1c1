//! Streams that are compressed for those who ask for it.
//!
//! What is compressed is flushed with every write, so that events are read as they come. A viewer's stream is
//! [stitched](stitch) together of [passages](passage), each compressed without regard to what stands before it. What
//! viewers read from the past is a passage of their own; those who are level with their view share those of
//! its [track], and cost no encoder.

use std::str::FromStr;

use http::header::{ACCEPT_ENCODING, HeaderMap, HeaderValue};

pub mod passage;
pub mod stitch;
pub mod stream;
pub mod track;

/// How a stream may be compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// RFC 8878.
    Zstd,
    /// RFC 7932.
    Br,
    /// RFC 1952.
    Gzip,
}

/// The encodings that are offered, the preferred one first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Encodings(Vec<Encoding>);

impl Encoding {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Zstd, Self::Br, Self::Gzip];

    /// Its name in HTTP.
    pub fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Br => "br",
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
            Encoding::ALL.into_iter().find(|encoding| encoding.name() == name).ok_or_else(|| name.to_owned())
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

impl From<Encoding> for HeaderValue {
    fn from(encoding: Encoding) -> Self {
        Self::from_static(encoding.name())
    }
}

#[cfg(test)]
mod tests {
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
            ("deflate", None),
            ("gzip;q=nonsense", None),
            ("", None),
        ] {
            assert_eq!(chosen("zstd, gzip", accepted), expected, "{accepted}");
        }
        assert_eq!(chosen("", "gzip"), None);
        assert_eq!(chosen("gzip,zstd", "gzip, zstd"), Some("gzip"));
        assert_eq!(chosen("br, gzip", "gzip, deflate, br, zstd"), Some("br"));
        assert_eq!("gzip,deflate".parse::<Encodings>().unwrap_err(), "deflate");
    }
}
