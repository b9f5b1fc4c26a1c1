//! The archive: what runs said, in object storage.

use runcast_protocol::{Cursor, Entry, Lane, RunId, Sequence};

use crate::config::ArchiveConfig;
use crate::readmodel::Summary;

/// Why the archive cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ArchiveError(String);

/// The archive. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Archive;

impl Archive {
    /// The archive that the configuration names; one that holds nothing if it names none.
    ///
    /// # Errors
    /// [`ArchiveError`] if the address cannot be used.
    pub fn open(_config: &ArchiveConfig) -> Result<Self, ArchiveError> {
        Ok(Self)
    }

    /// The runs that are archived, as a whole or in part; in order of their names.
    ///
    /// # Errors
    /// [`ArchiveError`] if the archive cannot be asked.
    pub async fn runs(&self) -> Result<Vec<RunId>, ArchiveError> {
        Ok(Vec::new())
    }

    /// What is archived of a run; none if nothing is.
    ///
    /// # Errors
    /// [`ArchiveError`] if the archive cannot be asked.
    pub async fn run(&self, _run: &RunId) -> Result<Option<ArchivedRun>, ArchiveError> {
        Ok(None)
    }
}

/// What is archived of a run, as of when it was asked for. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct ArchivedRun {
    cursor: Cursor,
    summary: Summary,
}

impl ArchivedRun {
    /// How far each lane is archived, from its beginning on.
    pub fn cursor(&self) -> &Cursor {
        &self.cursor
    }

    /// The read model of what is archived.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Messages of a lane, the next ones after `after`: at least one if any is archived, and not more than
    /// about a mebibyte. A hole before them is one that was never there to be archived.
    ///
    /// # Errors
    /// [`ArchiveError`] if the archive cannot be read, or is damaged.
    pub async fn after(&self, _lane: &Lane, _after: Sequence) -> Result<Vec<Entry>, ArchiveError> {
        Ok(Vec::new())
    }

    /// Length of the archived text of an output lane, in bytes.
    pub fn text_len(&self, _lane: &Lane) -> u64 {
        0
    }

    /// Where to begin reading a lane for the byte `at` of its text: the sequence after which, and how many
    /// bytes of text come before that.
    pub fn text_at(&self, _lane: &Lane, _at: u64) -> (Sequence, u64) {
        (Sequence::NONE, 0)
    }

    /// The same backwards: messages of a lane up to and with `upto`, in order, the last ones of these.
    ///
    /// # Errors
    /// [`ArchiveError`] if the archive cannot be read, or is damaged.
    pub async fn upto(&self, _lane: &Lane, _upto: Sequence) -> Result<Vec<Entry>, ArchiveError> {
        Ok(Vec::new())
    }
}
