//! Publishing a segment: all of it at once, or nothing.

use std::time::Duration;

use super::{Archive, ArchiveError, Draft, Segment};

/// How long a segment may take to be written and read back. Far less than the age at which a file that no
/// commit names is swept: what a commit names must not have been swept before.
const PATIENCE: Duration = Duration::from_secs(600);

/// What became of a draft.
#[derive(Debug)]
pub(crate) enum Published {
    /// It is in the archive.
    Done(Option<Segment>),
    /// Another replica made a commit of its number: the log must be read again.
    Lost,
}

impl Archive {
    /// Publishes a draft: its segment is written, read back and compared before the commit is created.
    ///
    /// # Errors
    /// [`ArchiveError`] if the store fails; then a file may be left behind, for the sweep.
    pub(crate) async fn publish(&self, draft: Draft, complete: bool) -> Result<Published, ArchiveError> {
        let Some(shared) = &self.0 else { return Ok(Published::Lost) };
        let (commit, file) = draft.finish(complete)?;
        let write = async {
            let (Some(segment), Some(file)) = (&commit.segment, file) else { return Ok(()) };
            let path = shared.names.segment(&commit.run_id, &segment.name);
            shared.store.put(&path, file).await?;
            let (bytes, sha256) = shared.store.checksum(&path).await?;
            if bytes != segment.bytes || sha256 != segment.sha256 {
                return Err(ArchiveError::Damaged(format!(
                    "{path} reads differently than it was written: {bytes} bytes of {}, sha256 {sha256} \
                     instead of {}",
                    segment.bytes, segment.sha256
                )));
            }
            Ok(())
        };
        tokio::time::timeout(PATIENCE, write).await.map_err(|_| {
            ArchiveError::Write(format!(
                "the store took more than {} minutes for it",
                PATIENCE.as_secs() / 60
            ))
        })??;
        let path = shared.names.commit(&commit.run_id, commit.number);
        match shared.store.create(&path, commit.to_bytes()).await? {
            true => Ok(Published::Done(commit.segment)),
            false => Ok(Published::Lost),
        }
    }
}
