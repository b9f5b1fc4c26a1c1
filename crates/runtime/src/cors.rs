//! Which origins' pages may read what a service serves (Fetch standard, "CORS protocol").

use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, HeaderValue, ORIGIN, VARY,
};
use hyper::{HeaderMap, Response};

/// Which origins' pages may read the streams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cors {
    /// Every page's.
    Any,
    /// Those of these origins.
    Only(Vec<HeaderValue>),
}

impl Cors {
    /// Reads `*`, or a list of origins separated by commas; empty for none.
    ///
    /// # Errors
    /// The item that is no origin such as `https://example.com`.
    pub fn parse(origins: &str) -> Result<Self, String> {
        if origins.trim() == "*" {
            return Ok(Self::Any);
        }
        let items = origins.split(',').map(str::trim).filter(|item| !item.is_empty());
        let origins = items.map(|item| {
            let is_origin =
                item.split_once("://").is_some_and(|(_, host)| !host.is_empty() && !host.contains('/'));
            HeaderValue::from_str(item).ok().filter(|_| is_origin).ok_or_else(|| item.to_owned())
        });
        Ok(Self::Only(origins.collect::<Result<_, _>>()?))
    }

    /// Whether this origin's pages may read.
    pub fn admits(&self, origin: &HeaderValue) -> bool {
        match self {
            Self::Any => true,
            Self::Only(origins) => origins.contains(origin),
        }
    }

    /// Adds to an answer what lets the asking page read it, if it may.
    pub fn allow<B>(&self, request: &HeaderMap, response: &mut Response<B>) {
        let Some(origin) = request.get(ORIGIN) else { return };
        let headers = response.headers_mut();
        match self {
            Self::Any => {
                headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
            }
            Self::Only(_) => {
                headers.append(VARY, HeaderValue::from_static("Origin"));
                if !self.admits(origin) {
                    return;
                }
                headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            }
        }
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, HEAD, POST, OPTIONS"));
        // Last-Event-ID is what clients other than EventSource send by themselves.
        headers.insert(
            ACCESS_CONTROL_ALLOW_HEADERS,
            HeaderValue::from_static(
                "Last-Event-ID, Cache-Control, Authorization, Content-Type, Range, If-Range",
            ),
        );
        // What a page needs to go on to the next page, or to ask for a range.
        headers.insert(
            ACCESS_CONTROL_EXPOSE_HEADERS,
            HeaderValue::from_static("Runcast-Next, Link, ETag, Content-Range, Accept-Ranges"),
        );
        headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("3600"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(origins: &str, origin: &str) -> Option<String> {
        let mut request = HeaderMap::new();
        request.insert(ORIGIN, origin.parse().unwrap());
        let mut response = Response::new(());
        Cors::parse(origins).unwrap().allow(&request, &mut response);
        response.headers().get(ACCESS_CONTROL_ALLOW_ORIGIN).map(|value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn only_listed_origins_may_read() {
        assert_eq!(
            allowed("https://a.example, http://localhost:5173", "https://a.example").unwrap(),
            "https://a.example"
        );
        assert_eq!(allowed("https://a.example", "https://a.example.evil"), None);
        assert_eq!(allowed("", "https://a.example"), None);
        assert_eq!(allowed("*", "https://a.example").unwrap(), "*");
    }

    #[test]
    fn what_is_no_origin_is_refused() {
        assert_eq!(Cors::parse("https://a.example,example.com").unwrap_err(), "example.com");
        assert_eq!(Cors::parse("https://a.example/path").unwrap_err(), "https://a.example/path");
    }
}
