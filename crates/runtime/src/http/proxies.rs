//! Which proxies are believed when they say whom a request comes from.

use std::net::IpAddr;
use std::str::FromStr;

use http::{HeaderMap, HeaderName, header};
use serde::Deserialize;

/// The proxies that are trusted, and where they say whom a request comes from.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    trusted: Vec<Network>,
    header: ClientHeader,
}

/// The header that the proxies set. Only one is read: a proxy passes on what it does not know, so
/// that a client could write itself any address into the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientHeader {
    /// `X-Forwarded-For`: what nearly all proxies set.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    bits: u32,
}

impl Proxies {
    /// Reads a list, separated by commas, of addresses and networks such as `10.0.0.0/8` or `fd00::/8`.
    ///
    /// # Errors
    /// Which item is neither.
    pub fn parse(trusted: &str, header: ClientHeader) -> Result<Self, String> {
        let items = trusted.split(',').map(str::trim).filter(|item| !item.is_empty());
        let trusted = items.map(|item| {
            item.parse().map_err(|()| format!("{item:?} is no address or network such as 10.0.0.0/8"))
        });
        Ok(Self { trusted: trusted.collect::<Result<_, _>>()?, header })
    }

    /// Whether what this peer says is believed.
    pub(super) fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.trusted.iter().any(|network| network.contains(address))
    }

    /// Whom a trusted peer's request comes from: the last address that no trusted proxy stands at. Each proxy
    /// adds whom it was asked by at the end; what stands before an untrusted one is its invention.
    pub(super) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let (name, read): (_, fn(&str) -> Option<IpAddr>) = match self.header {
            ClientHeader::XForwardedFor => (HeaderName::from_static("x-forwarded-for"), node),
            ClientHeader::Forwarded => (header::FORWARDED, forwarded_for),
        };
        let mut client = peer.to_canonical();
        let values: Vec<&str> =
            headers.get_all(name).iter().map(|value| value.to_str().unwrap_or("")).collect();
        for element in values.iter().rev().flat_map(|value| value.rsplit(',')) {
            let Some(address) = read(element.trim()) else { break };
            client = address;
            if !self.trusts(address) {
                break;
            }
        }
        client
    }
}

/// The `for` of one element of `Forwarded`.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let pairs = element.split(';').filter_map(|pair| pair.split_once('='));
    let mut named = pairs.filter(|(name, _)| name.trim().eq_ignore_ascii_case("for"));
    named.next().and_then(|(_, value)| node(value.trim()))
}

/// An address, with or without a port, quotes and brackets. None for names such as `unknown`.
fn node(text: &str) -> Option<IpAddr> {
    let text = text.trim_matches('"');
    let host = match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?.0,
        None if text.matches(':').count() == 1 => text.split_once(':')?.0,
        None => text,
    };
    host.parse().ok().map(|address: IpAddr| address.to_canonical())
}

impl Network {
    fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                (network.to_bits() ^ address.to_bits()).leading_zeros() >= self.bits
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                (network.to_bits() ^ address.to_bits()).leading_zeros() >= self.bits
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (address, bits) = text.split_once('/').map_or((text, None), |(ip, bits)| (ip, Some(bits)));
        let address: IpAddr = address.parse().map_err(drop)?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(most), |bits| bits.parse().map_err(drop))?;
        if bits > most { Err(()) } else { Ok(Self { address, bits }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(header: ClientHeader, value: &str) -> String {
        let proxies = Proxies::parse("10.0.0.0/8, 192.0.2.7,fd00::/8", header).unwrap();
        let mut headers = HeaderMap::new();
        for line in value.split('|') {
            headers.append("x-forwarded-for", line.parse().unwrap());
            headers.append("forwarded", line.parse().unwrap());
        }
        proxies.client("10.0.0.1".parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn only_what_trusted_proxies_added_is_believed() {
        for (value, expected) in [
            ("198.51.100.1", "198.51.100.1"),
            ("1.2.3.4, 198.51.100.1", "198.51.100.1"),
            ("1.2.3.4, 198.51.100.1, 10.9.9.9, 192.0.2.7", "198.51.100.1"),
            ("1.2.3.4, 198.51.100.1|10.9.9.9", "198.51.100.1"),
            ("198.51.100.1:4711", "198.51.100.1"),
            ("[2001:db8::1]:443", "2001:db8::1"),
            ("2001:db8::1", "2001:db8::1"),
            ("1.2.3.4, unknown", "10.0.0.1"),
            ("", "10.0.0.1"),
            ("10.1.1.1", "10.1.1.1"),
        ] {
            assert_eq!(client(ClientHeader::XForwardedFor, value), expected, "{value}");
        }
    }

    #[test]
    fn rfc_7239_is_read() {
        for (value, expected) in [
            ("for=1.2.3.4, for=198.51.100.1;proto=https", "198.51.100.1"),
            ("by=10.0.0.1;For=\"[2001:db8::1]:443\"", "2001:db8::1"),
            ("for=_hidden", "10.0.0.1"),
        ] {
            assert_eq!(client(ClientHeader::Forwarded, value), expected, "{value}");
        }
    }

    #[test]
    fn networks_are_read() {
        let proxies = Proxies::parse("0.0.0.0/0", ClientHeader::default()).unwrap();
        assert!(proxies.trusts("::ffff:1.2.3.4".parse().unwrap()));
        assert!(!proxies.trusts("::1".parse().unwrap()));
        for wrong in ["10.0.0.0/33", "ten", "10.0.0.0/", "::/129"] {
            let error = Proxies::parse(wrong, ClientHeader::default()).unwrap_err();
            assert!(error.starts_with(&format!("{wrong:?} is no address")), "{error}");
        }
    }
}
