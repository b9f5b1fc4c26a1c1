//! Why a sidecar cannot go on.

use std::io;

use runcast_bus::BusError;
use runcast_runtime::config::EXIT_CODE as EX_CONFIG;

use crate::journal::JournalError;
use crate::redact::BadRule;
use crate::writer::Fenced;

/// `EX_UNAVAILABLE` of `sysexits.h`.
const EX_UNAVAILABLE: u8 = 69;

/// Why a sidecar cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The Redis address cannot be used.
    #[error(transparent)]
    Redis(#[from] BusError),
    /// Another sidecar took over.
    #[error(transparent)]
    Fenced(#[from] Fenced),
    /// The journal cannot be used.
    #[error("journal.folder: {0}")]
    Journal(#[from] JournalError),
    /// The secrets to look for cannot be put together.
    #[error("redact.custom: {0}; use fewer or simpler patterns")]
    Redact(#[from] BadRule),
    /// `serve` would listen nowhere.
    #[error("configuration: `api.listen` and `api.socket` are both empty; set one of them")]
    NowhereToListen,
    /// A socket cannot be bound.
    #[error("`{key}` `{address}` cannot be bound: {source}")]
    Listen {
        /// The option.
        key: &'static str,
        /// Its value.
        address: String,
        /// What the system says.
        source: io::Error,
    },
    /// The operating system refuses something that nothing works without.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// A part shared by all services could not start.
    #[error("{0:#}")]
    Start(#[from] anyhow::Error),
}

impl Error {
    /// The process's exit status.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Redis(_) | Self::Redact(_) | Self::NowhereToListen => EX_CONFIG,
            Self::Journal(JournalError::Foreign { .. } | JournalError::Version { .. }) => EX_CONFIG,
            Self::Fenced(_) | Self::Journal(JournalError::Locked(_)) => EX_UNAVAILABLE,
            Self::Journal(_) | Self::Listen { .. } | Self::System { .. } | Self::Start(_) => 1,
        }
    }
}
