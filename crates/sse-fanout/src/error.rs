//! What a client did wrong.

use std::fmt::Display;

/// A request that cannot be served, and what the client should do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadRequest(String);

impl BadRequest {
    /// A parameter or header with a wrong value.
    pub fn new(name: &str, why: impl Display) -> Self {
        Self(format!("{name}: {why}"))
    }

    /// A parameter that does not exist.
    pub fn unknown(name: &str) -> Self {
        let shown: String = name.chars().take(40).collect();
        Self(format!(
            "{shown}: there is no such parameter; there are channels, variations, from, after and merge"
        ))
    }
}
