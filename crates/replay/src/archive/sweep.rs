//! Removing what was left behind by those who died or lost.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::path::Path as FilePath;
use std::time::{Duration, SystemTime};

use object_store::ObjectMeta;
use runcast_protocol::RunId;

use super::{Archive, ArchiveError, ArchivedRun, Shared, names};

/// What no commit can name any more, whatever its number: nobody takes so long to publish a segment.
const OLD: Duration = Duration::from_secs(24 * 3600);

impl Archive {
    /// Removes what no commit of a run names, and temporary files of a local folder; returns how much.
    ///
    /// What has the number of a commit that is there is nobody's any more: whoever wrote it could not publish
    /// it. What has a higher number may be on its way, and is left until it is old.
    ///
    /// # Errors
    /// [`ArchiveError`] if the store fails.
    pub(crate) async fn sweep(&self, run: &RunId) -> Result<u64, ArchiveError> {
        let Some(shared) = &self.0 else { return Ok(0) };
        // In this order: what was committed after the listing is not taken for left behind.
        let found = shared.store.list(&shared.names.segments(run)).await?;
        let log = shared.store.list(&shared.names.log(run)).await?;
        let published = log.iter().filter_map(number).max().unwrap_or_default();
        let removed = if log.first().and_then(number).is_some_and(|first| first > 1) {
            shared.remove_rest(run).await?
        } else {
            shared.sweep_segments(run, &found, published).await?
        };
        Ok(removed + shared.sweep_temporary(run, published).await?)
    }
}

impl Shared {
    async fn sweep_segments(
        self: &std::sync::Arc<Self>,
        run: &RunId,
        found: &[ObjectMeta],
        published: u64,
    ) -> Result<u64, ArchiveError> {
        let mut numbers = HashSet::new();
        // Mostly there is one segment for each number, and nothing to be asked.
        let suspicious = |object: &ObjectMeta, numbers: &mut HashSet<u64>| match number(object) {
            Some(number) => !numbers.insert(number) || number > published,
            None => false,
        };
        if found.iter().filter(|object| suspicious(object, &mut numbers)).count() == 0 {
            return Ok(0);
        }
        let archived = self.load(run).await?;
        let commits = archived.as_ref().map_or(&[][..], ArchivedRun::commits);
        let named: HashSet<&str> =
            commits.iter().filter_map(|commit| Some(commit.segment.as_ref()?.name.as_str())).collect();
        let published = archived.as_ref().map_or(0, ArchivedRun::number);
        let mut removed = 0;
        for object in found {
            let (Some(name), Some(number)) = (object.location.filename(), number(object)) else { continue };
            let old = SystemTime::from(object.last_modified).elapsed().is_ok_and(|age| age > OLD);
            if !named.contains(name) && (number <= published || old) {
                self.store.delete(&object.location).await?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Files that a write to a local folder left when its process was killed: `…#1`.
    async fn sweep_temporary(&self, run: &RunId, published: u64) -> Result<u64, ArchiveError> {
        let paths = [self.names.segments(run), self.names.log(run)];
        let folders: Vec<_> = paths.iter().filter_map(|path| self.store.folder_of(path)).collect();
        let swept = tokio::task::spawn_blocking(move || {
            folders.iter().try_fold(0, |sum, folder| Ok(sum + sweep_folder(folder, published)?))
        });
        let swept: std::io::Result<u64> = swept.await.unwrap_or_else(|error| Err(error.into()));
        swept.map_err(|error| ArchiveError::Write(format!("temporary files of run {run}: {error}")))
    }
}

fn sweep_folder(folder: &FilePath, published: u64) -> std::io::Result<u64> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
        entries => entries?,
    };
    let mut removed = 0;
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let Some((name, _)) = name.to_str().and_then(|name| name.rsplit_once('#')) else { continue };
        let age = || entry.metadata().and_then(|meta| meta.modified()).ok()?.elapsed().ok();
        if names::number(name).is_some_and(|number| number <= published) || age().is_some_and(|age| age > OLD)
        {
            match std::fs::remove_file(entry.path()) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => removed += 1,
            }
        }
    }
    Ok(removed)
}

fn number(object: &ObjectMeta) -> Option<u64> {
    object.location.filename().and_then(names::number)
}
