//! The archived runs that were asked for lately: a viewer asks for one page after the other, and what is
//! archived of the run need not be looked up for each.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use runcast_protocol::RunId;
use tokio::time::Instant;

use crate::archive::{Archive, ArchiveError, ArchivedRun};

/// Most runs that are remembered.
const RUNS: usize = 64;
/// How long one counts: it may have been deleted meanwhile.
const FRESH: Duration = Duration::from_secs(10);

/// The archived runs that were asked for lately.
#[derive(Debug, Default)]
pub(super) struct Recent(Mutex<HashMap<RunId, (Instant, ArchivedRun)>>);

impl Recent {
    /// What is archived of a run; looked up anew unless what is remembered `holds` what is wanted.
    ///
    /// # Errors
    /// [`ArchiveError`] if the archive cannot be asked.
    pub(super) async fn run(
        &self,
        archive: &Archive,
        run: &RunId,
        holds: impl Fn(&ArchivedRun) -> bool,
    ) -> Result<Option<ArchivedRun>, ArchiveError> {
        let known = self.lock().get(run).filter(|(at, _)| at.elapsed() < FRESH).cloned();
        if let Some((_, archived)) = known.filter(|(_, archived)| holds(archived)) {
            return Ok(Some(archived));
        }
        let archived = archive.run(run).await?;
        let mut runs = self.lock();
        runs.retain(|_, (at, _)| at.elapsed() < FRESH);
        if let Some(archived) = &archived
            && (runs.len() < RUNS || runs.contains_key(run))
        {
            runs.insert(run.clone(), (Instant::now(), archived.clone()));
        }
        Ok(archived)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RunId, (Instant, ArchivedRun)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
