//! Who may speak in the agent's name: processes of the pod, no web page.

use std::net::IpAddr;

use http::header::{HOST, HeaderMap, ORIGIN};
use http::uri::{Authority, Uri};

/// Why a request is refused; none if it may come from an agent.
///
/// Browsers say where a script came from (`Origin`), and of requests without a script that a page made them
/// (`Sec-Fetch-Site`, <https://www.w3.org/TR/fetch-metadata/>). A page whose own name was made to point here
/// (DNS rebinding) says neither, but its name is in `Host`; a name without a dot is nobody's.
pub(super) fn refused(headers: &HeaderMap, uri: &Uri) -> Option<&'static str> {
    let from_a_page = headers.get("sec-fetch-site").is_some_and(|site| site != "none");
    if from_a_page || headers.contains_key(ORIGIN) {
        return Some("this API is for the agent, not for web pages");
    }
    let named = headers.get_all(HOST).iter().all(|host| host.to_str().is_ok_and(is_local));
    let addressed = uri.authority().is_none_or(|authority| is_local(authority.as_str()));
    (!named || !addressed)
        .then_some("`Host` must be localhost or a loopback address: this API is for this pod only")
}

/// Whether a name or address, with or without a port, can only be this machine.
fn is_local(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return host.is_empty() };
    let host = authority.host();
    match host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => !host.contains('.') || host.ends_with(".localhost"),
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn is_refused(headers: &[(&str, &'static str)]) -> bool {
        let header = |&(name, value): &(&str, &'static str)| {
            (name.parse::<HeaderName>().unwrap(), HeaderValue::from_static(value))
        };
        refused(&headers.iter().map(header).collect(), &Uri::from_static("/v1/output")).is_some()
    }

    #[test]
    fn agents_are_let_in() {
        let hosts = [
            "localhost",
            "localhost:7780",
            "127.0.0.1:7780",
            "127.8.0.1",
            "[::1]:7780",
            "sidecar",
            "a.localhost",
            "",
        ];
        for host in hosts {
            assert!(!is_refused(&[("host", host)]), "{host}");
        }
        assert!(!is_refused(&[]) && !is_refused(&[("sec-fetch-site", "none")]));
    }

    #[test]
    fn pages_are_kept_out() {
        for host in
            ["evil.example", "evil.example:7780", "10.0.0.7", "[fe80::1]:7780", "127.0.0.1.evil.example"]
        {
            assert!(is_refused(&[("host", host)]), "{host}");
        }
        assert!(is_refused(&[("host", "localhost"), ("origin", "null")]));
        assert!(is_refused(&[("host", "localhost"), ("sec-fetch-site", "cross-site")]));
        assert!(refused(&HeaderMap::new(), &Uri::from_static("http://evil.example/v1/output")).is_some());
    }
}
