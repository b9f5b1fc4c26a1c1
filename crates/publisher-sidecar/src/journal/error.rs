//! What can go wrong with the journal.

use std::io;
use std::path::{Path, PathBuf};

use runcast_protocol::{RunId, VariationId};

/// Why the journal did not do what it was asked to. Nothing was written then.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another process has it open.
    #[error("the journal in {} is in use by another sidecar", .0.display())]
    Locked(PathBuf),
    /// It is another variation's.
    #[error(
        "the journal in {} is of variation {variation} of run {run}: give each variation a folder of its own",
        .folder.display()
    )]
    Foreign {
        /// Where it is.
        folder: PathBuf,
        /// Its run.
        run: RunId,
        /// Its variation.
        variation: VariationId,
    },
    /// A newer sidecar wrote it, in a format that this one does not know.
    #[error("{} is of version {version}, which this sidecar does not know: use a newer one", .path.display())]
    Version {
        /// The segment.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// There is no room until more of it is safe.
    #[error("the journal is full: {bytes} of {limit} bytes")]
    Full {
        /// How large it is.
        bytes: u64,
        /// How large it may be.
        limit: u64,
    },
    /// What is to be written has no room even in an empty journal.
    #[error("{bytes} bytes do not fit into a journal of {limit}")]
    TooLarge {
        /// How much it is.
        bytes: u64,
        /// How much there may be.
        limit: u64,
    },
    /// The message was safe, and its segment is deleted.
    #[error("segment {0} of the journal is gone")]
    Gone(u32),
    /// The message is not any more what was written.
    #[error("the journal's message at byte {offset} of segment {segment} is damaged")]
    Damaged {
        /// The segment's number.
        segment: u32,
        /// Where in the segment.
        offset: u64,
    },
    /// The file system refused.
    #[error("cannot {doing} {}: {source}", .path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file or folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Says what was being done when the file system refused.
pub(super) fn failed<E: Into<io::Error>>(doing: &'static str, path: &Path) -> impl Fn(E) -> JournalError {
    move |error| JournalError::Io { doing, path: path.into(), source: error.into() }
}
