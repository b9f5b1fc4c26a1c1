//! What is known of the credential of a run's Redis user, as it is kept in Redis. Pure.
//!
//! Never the password: its SHA-256 sum is enough to tell Redis which one is good. The password has 256 random bits,
//! so that nobody finds it by trying.

use serde::{Deserialize, Serialize};

/// Seconds since 1970.
pub type Seconds = i64;

/// A run's credential.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credential {
    /// SHA-256 of the password, in hex.
    pub sha256: String,
    /// The password before that, while it is still good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Previous>,
    /// When it ceases to be good, however long the run takes.
    pub until: Seconds,
    /// When it ceases to be good because the run is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over_until: Option<Seconds>,
}

/// A password that was replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Previous {
    /// SHA-256 of the password, in hex.
    pub sha256: String,
    /// When it ceases to be good.
    pub until: Seconds,
}

impl Credential {
    /// The first of a run.
    pub fn new(sha256: String, until: Seconds) -> Self {
        Self { sha256, previous: None, until, over_until: None }
    }

    /// Another password instead; that before is good until `overlap_until`, the one before that no more.
    #[must_use]
    pub fn rotated(self, sha256: String, overlap_until: Seconds, until: Seconds) -> Self {
        let previous = Some(Previous { sha256: self.sha256, until: overlap_until });
        Self { sha256, previous, until, over_until: self.over_until }
    }

    /// The run is over, which shortens it, or goes on after all.
    #[must_use]
    pub fn with_over(self, until: Option<Seconds>) -> Self {
        // The first end counts: each replica tells of it.
        let over_until = until.map(|until| self.over_until.unwrap_or(until));
        Self { over_until, ..self }
    }

    /// When it ceases to be good.
    pub fn expires(&self) -> Seconds {
        self.over_until.map_or(self.until, |over| over.min(self.until))
    }

    /// What is left of it; none if nothing is.
    pub fn at(&self, now: Seconds) -> Option<Self> {
        let previous = self.previous.clone().filter(|previous| previous.until > now);
        (self.expires() > now).then(|| Self { previous, ..self.clone() })
    }

    /// The sums of the passwords that are good.
    pub fn sums(&self) -> Vec<String> {
        let previous = self.previous.iter().map(|previous| previous.sha256.clone());
        std::iter::once(self.sha256.clone()).chain(previous).collect()
    }

    /// As it is kept.
    pub fn to_text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// As it was kept.
    pub fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_before_is_good_for_the_overlap_and_all_end_with_the_run() {
        let first = Credential::new("a".into(), 1000);
        let second = first.rotated("b".into(), 150, 1100);
        assert_eq!(second.at(149).unwrap().sums(), ["b", "a"]);
        assert_eq!(second.at(150).unwrap().sums(), ["b"]);
        assert_eq!(second.clone().rotated("c".into(), 200, 1200).sums(), ["c", "b"]);
        let over = second.with_over(Some(300)).with_over(Some(400));
        assert_eq!((over.expires(), over.at(300)), (300, None), "the first end counts");
        assert_eq!(over.clone().with_over(None).expires(), 1100, "it goes on after all");
        assert_eq!(Credential::parse(&over.to_text()), Some(over));
    }
}
