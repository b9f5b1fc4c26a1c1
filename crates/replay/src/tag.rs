//! Entity tags (RFC 9110 §8.8.3): who has seen an answer already need not get it again.

use std::hash::{DefaultHasher, Hash, Hasher};

use http::HeaderMap;
use http::header::{HeaderValue, IF_NONE_MATCH};

/// A strong entity tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag(String);

impl Tag {
    /// The tag of what an answer is made of.
    pub fn of(content: &impl Hash) -> Self {
        let mut hasher = DefaultHasher::new();
        content.hash(&mut hasher);
        Self(format!("\"{:016x}\"", hasher.finish()))
    }

    /// As it stands in headers.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As the value of `ETag`.
    pub fn header(&self) -> Option<HeaderValue> {
        HeaderValue::from_str(&self.0).ok()
    }

    /// Whether a client says by `If-None-Match` that it has this already.
    pub fn is_known(&self, headers: &HeaderMap) -> bool {
        let known = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
        known.flat_map(|value| value.split(',')).any(|tag| tag.trim() == self.0 || tag.trim() == "*")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_several_is_enough() {
        let tag = Tag::of(&"content");
        let known = |value: &str| {
            let headers = HeaderMap::from_iter([(IF_NONE_MATCH, value.parse().unwrap())]);
            tag.is_known(&headers)
        };
        assert!(known(tag.as_str()));
        assert!(known(&format!("\"other\", {}", tag.as_str())));
        assert!(known("*"));
        assert!(!known("\"other\""));
        assert!(!tag.is_known(&HeaderMap::new()));
    }
}
