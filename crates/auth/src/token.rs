//! A token as it comes with a request.

use std::fmt;

use http::header::{AUTHORIZATION, COOKIE, HOST, ORIGIN};
use http::{HeaderMap, Method};

/// A token as it came, not verified. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Token(…)")
    }
}

impl Token {
    /// A token's text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub(crate) fn text(&self) -> &str {
        &self.0
    }

    /// From `Authorization: Bearer …`; if there is none, from the cookie `cookie` (none if empty).
    ///
    /// Browsers send cookies along with whatever a foreign page makes them ask for, so a cookie counts only
    /// where nothing is changed, or where the page is of our own origin.
    #[must_use]
    pub fn of(method: &Method, headers: &HeaderMap, cookie: &str) -> Option<Self> {
        if let Some(value) = headers.get(AUTHORIZATION) {
            // Who sends this header means it: a wrong one does not fall back to a cookie.
            let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
            return scheme.eq_ignore_ascii_case("bearer").then(|| Self::new(token.trim()));
        }
        let harmless = matches!(*method, Method::GET | Method::HEAD) || is_same_origin(headers);
        (harmless && !cookie.is_empty()).then(|| named(headers, cookie)).flatten()
    }
}

fn named(headers: &HeaderMap, cookie: &str) -> Option<Token> {
    let all = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = all.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == cookie).map(|(_, value)| Token::new(value))
}

fn is_same_origin(headers: &HeaderMap) -> bool {
    if let Some(site) = headers.get("sec-fetch-site") {
        return site == "same-origin";
    }
    let text = |name| headers.get(name).and_then(|value: &http::HeaderValue| value.to_str().ok());
    let (Some(origin), Some(host)) = (text(ORIGIN), text(HOST)) else { return false };
    origin.split_once("://").is_some_and(|(_, of)| of.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(method: Method, headers: &[(&'static str, &'static str)]) -> Option<Token> {
        let pairs = headers.iter().map(|(name, value)| {
            (http::HeaderName::from_static(name), http::HeaderValue::from_static(value))
        });
        Token::of(&method, &pairs.collect(), "runcast")
    }

    #[test]
    fn a_header_wins_over_a_cookie_and_neither_is_printed() {
        let cookie = ("cookie", "a=b; runcast=c");
        assert_eq!(of(Method::GET, &[cookie]), Some(Token::new("c")));
        assert_eq!(of(Method::GET, &[cookie, ("authorization", "bearer t")]), Some(Token::new("t")));
        assert_eq!(of(Method::GET, &[cookie, ("authorization", "Basic t")]), None);
        assert_eq!(of(Method::GET, &[("cookie", "xruncast=c")]), None);
        assert_eq!(format!("{:?}", Token::new("secret")), "Token(…)");
    }

    #[test]
    fn a_cookie_does_not_change_anything_for_a_foreign_page() {
        let (cookie, host) = (("cookie", "runcast=c"), ("host", "a.example"));
        for headers in [
            &[cookie, host] as &[_],
            &[cookie, host, ("origin", "https://b.example")],
            &[cookie, host, ("origin", "null")],
            &[cookie, host, ("origin", "https://a.example"), ("sec-fetch-site", "same-site")],
        ] {
            assert_eq!(of(Method::POST, headers), None, "{headers:?}");
        }
        assert!(of(Method::POST, &[cookie, host, ("origin", "https://a.example")]).is_some());
        assert!(of(Method::POST, &[cookie, ("sec-fetch-site", "same-origin")]).is_some());
    }
}
