//! What can go wrong with the archive.

/// Why the archive cannot be used, or not now.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The address cannot be used; the text says what to write instead.
    #[error("{0}")]
    Config(String),
    /// The store failed, or refused.
    #[error("{doing}: {error}")]
    Store {
        /// What was being done, and with which object.
        doing: String,
        /// What the store said.
        error: object_store::Error,
    },
    /// What is there is not what was written.
    #[error("the archive is damaged: {0}")]
    Damaged(String),
    /// A segment cannot be written.
    #[error("a segment cannot be written: {0}")]
    Write(String),
    /// A newer version of Runcast wrote it.
    #[error("{0}")]
    Version(String),
}

impl ArchiveError {
    /// What the store said while it was `doing` something with an object.
    pub(crate) fn store(doing: &str, path: &object_store::path::Path, error: object_store::Error) -> Self {
        Self::Store { doing: format!("cannot {doing} {path}"), error }
    }

    /// Whether an object is not there that should be.
    pub(crate) fn is_missing(&self) -> bool {
        matches!(self, Self::Store { error: object_store::Error::NotFound { .. }, .. })
    }
}
