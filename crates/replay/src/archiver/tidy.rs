//! Once in a while: what was left behind is removed, and what is older than it is to be kept.

use std::time::{Duration, SystemTime};

use runcast_protocol::RunId;

use super::Archiver;
use crate::archive::{ArchivedRun, Removed};
use crate::error::Error;

impl Archiver {
    /// Goes through all that is archived.
    pub(super) async fn tidy(&mut self) {
        let runs = match self.context.archive.runs().await {
            Ok(runs) => runs,
            Err(error) => return tracing::warn!(%error, "cannot look for what was left behind"),
        };
        for run in runs {
            self.sweep(&run).await;
            if let Some(retention) = self.config.retention
                && let Err(error) = self.expire(&run, retention).await
            {
                tracing::warn!(%run, %error, "cannot see whether a run is to be kept");
            }
        }
    }

    pub(super) async fn sweep(&self, run: &RunId) {
        match self.context.archive.sweep(run).await {
            Ok(0) => {}
            Ok(files) => {
                self.context.metrics.archive_swept.add(files, &[]);
                tracing::info!(%run, files, "removed what was left behind");
            }
            // The next one will.
            Err(error) => tracing::warn!(%run, %error, "cannot remove what was left behind"),
        }
    }

    /// Removes a run that ended too long ago. Its last commit tells when: what agents take for the time is not
    /// relied upon. One that Redis still has would be archived anew, and stays until it is gone there.
    async fn expire(&self, run: &RunId, retention: Duration) -> Result<(), Error> {
        let Some(archived) = self.context.archive.run(run).await? else { return Ok(()) };
        if !is_expired(&archived, retention) || !self.context.bus.lanes(run).await?.is_empty() {
            return Ok(());
        }
        if self.context.archive.remove(run).await? == Removed::Yes {
            self.context.metrics.archive_expired.add(1, &[]);
            tracing::info!(%run, "removed an archived run that is older than archive.retention");
        }
        Ok(())
    }
}

fn is_expired(archived: &ArchivedRun, retention: Duration) -> bool {
    let made = SystemTime::from(archived.archived_at().0);
    made.elapsed().is_ok_and(|age| age > retention)
}
