//! Removing a run from the archive.

use std::io::ErrorKind;

use runcast_protocol::RunId;

use super::{Archive, ArchiveError, Shared, names};

/// Whether there was anything to remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removed {
    /// The run is gone.
    Yes,
    /// Nothing was archived of it.
    NotThere,
}

impl Archive {
    /// Removes a run. It is gone with its first commit: who reads the log then finds nothing. Whoever is killed
    /// on the way leaves the rest to the next sweep.
    ///
    /// # Errors
    /// [`ArchiveError`] if the store fails; then it may be there, or gone with a rest left behind.
    pub async fn remove(&self, run: &RunId) -> Result<Removed, ArchiveError> {
        let Some(shared) = &self.0 else { return Ok(Removed::NotThere) };
        let there = !shared.store.list(&shared.names.log(run)).await?.is_empty();
        shared.store.delete(&shared.names.commit(run, 1)).await?;
        shared.remove_rest(run).await?;
        Ok(if there { Removed::Yes } else { Removed::NotThere })
    }
}

impl Shared {
    /// Removes what is left of a run without a first commit; returns how many objects that were.
    pub(super) async fn remove_rest(&self, run: &RunId) -> Result<u64, ArchiveError> {
        self.forget(run);
        let mut removed = 0;
        // The log first: nobody may find a commit whose segment is gone.
        for folder in [self.names.log(run), self.names.segments(run)] {
            for object in self.store.list(&folder).await? {
                if object.location.filename().and_then(names::number).is_some() {
                    self.store.delete(&object.location).await?;
                    removed += 1;
                }
            }
        }
        if let Some(folder) = self.store.folder_of(&self.names.run(run)) {
            // With temporary files, and the folders themselves.
            match tokio::fs::remove_dir_all(&folder).await {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(ArchiveError::Write(format!(
                        "{} cannot be removed: {error}",
                        folder.display()
                    )));
                }
                _ => {}
            }
        }
        Ok(removed)
    }
}
