//! One look at all runs.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use runcast_bus::LaneState;
use runcast_protocol::{Lane, RunId};
use tokio::time::Instant;

use super::due::{Look, behind, is_due, lacking};
use super::watched::Watched;
use super::{Archiver, work::Outcome};
use crate::error::Error;

/// For so many looks Redis may have less of a run than the archive before that is told.
const SHORT: u32 = 6;

impl Archiver {
    pub(super) async fn look(&mut self) {
        let runs = match self.context.bus.runs().await {
            Ok(runs) => runs,
            Err(error) => return tracing::warn!(%error, "cannot ask redis for its runs"),
        };
        let there: HashSet<&RunId> = runs.iter().collect();
        self.runs.retain(|run, _| there.contains(run));
        let mut longest = Duration::ZERO;
        // A store that is away is not asked for each run, with its patience each time.
        let mut store_failed = false;
        for run in &runs {
            let mut watched = self.runs.remove(run).unwrap_or_default();
            match self.look_at(run, &mut watched, &mut store_failed).await {
                Ok(age) => longest = longest.max(age),
                Err(error) => self.failed(run, &error),
            }
            self.runs.insert(run.clone(), watched);
        }
        self.context.metrics.archive_lag.record(longest.as_secs(), &[]);
    }

    pub(super) fn failed(&self, run: &RunId, error: &Error) {
        self.context.metrics.archive_failures.add(1, &[]);
        tracing::warn!(%run, %error, "cannot archive a run now; trying again");
    }

    /// Archives a run if it is due, and sees to it that Redis keeps it until then; for how long it has had
    /// something that is not archived.
    async fn look_at(
        &mut self,
        run: &RunId,
        watched: &mut Watched,
        store_failed: &mut bool,
    ) -> Result<Duration, Error> {
        let bus = &self.context.bus;
        // Before the statuses: what these say is the end of comes before them.
        let lanes = bus.lanes(run).await?;
        if lanes.is_empty() {
            return Ok(Duration::ZERO);
        }
        if watched.archived.is_none() && !*store_failed {
            match self.context.archive.run_now(run).await {
                Ok(archived) => watched.archived = Some(archived),
                Err(error) => {
                    *store_failed = matches!(error, crate::archive::ArchiveError::Store { .. });
                    self.failed(run, &error.into());
                }
            }
        }
        let over = watched.is_over(bus, run, &lanes).await?;
        let messages = lacking(&lanes, &watched.cursor());
        let age = watched.age(messages);
        if let Some(lane) = behind(&lanes, &watched.cursor()) {
            self.tell_reused(run, &lane, watched);
            self.protect(run, over).await?;
            return Ok(age);
        }
        (watched.told_reused, watched.short_since) = (false, None);
        let complete = watched.known().is_some_and(crate::archive::ArchivedRun::is_complete);
        if messages == 0 && complete {
            if over {
                self.release(run, watched, &lanes).await?;
            }
            return Ok(age);
        }
        watched.released = false;
        let bytes = if over { 0 } else { watched.bytes(bus, run, &lanes, messages).await? };
        let segment_bytes = self.config.segment_bytes.as_u64();
        if !is_due(Look { over, complete, messages, bytes, age }, segment_bytes, self.config.segment_age) {
            return Ok(age);
        }
        if *store_failed || watched.archived.is_none() {
            self.protect(run, over).await?;
            return Ok(age);
        }
        self.archive(run, watched, &lanes, over, store_failed).await?;
        Ok(age)
    }

    /// Archives a run whose turn is ours.
    async fn archive(
        &mut self,
        run: &RunId,
        watched: &mut Watched,
        lanes: &BTreeMap<Lane, LaneState>,
        over: bool,
        store_failed: &mut bool,
    ) -> Result<(), Error> {
        if !self.context.bus.take_archiving(run, &self.name, self.turn()).await? {
            // Another one is at it: what it did shows when its turn is over.
            watched.archived = None;
            return self.protect(run, over).await;
        }
        let result = self.work(run, watched, lanes, over).await;
        self.context.bus.leave_archiving(run, &self.name).await?;
        match result {
            Ok(Outcome::Complete) => self.release(run, watched, lanes).await,
            Ok(Outcome::Some) => self.protect(run, over).await,
            Err(error) => {
                *store_failed = matches!(error, Error::Archive(crate::archive::ArchiveError::Store { .. }));
                // It is not known how far it is archived.
                watched.archived = None;
                self.protect(run, over).await?;
                Err(error)
            }
        }
    }

    /// How long a turn lasts unless it is taken again.
    pub(super) fn turn(&self) -> Duration {
        (self.config.interval * 2).clamp(Duration::from_secs(1), Duration::from_secs(30))
    }

    /// Has Redis keep a run that is over, and not yet archived.
    pub(super) async fn protect(&self, run: &RunId, over: bool) -> Result<(), Error> {
        if over && self.context.bus.protect(run, self.config.protect).await? > 0 {
            tracing::info!(%run, ttl = ?self.config.protect, "redis keeps a run that is not archived yet");
        }
        Ok(())
    }

    /// Lets Redis forget a run of which all was found in the archive; not if somebody wrote since.
    async fn release(
        &self,
        run: &RunId,
        watched: &mut Watched,
        lanes: &BTreeMap<Lane, LaneState>,
    ) -> Result<(), Error> {
        if let Some(ttl) = self.config.release
            && !watched.released
        {
            watched.released = self.context.bus.release(run, lanes, ttl).await?;
        }
        Ok(())
    }

    fn tell_reused(&self, run: &RunId, lane: &Lane, watched: &mut Watched) {
        // What a failover lost is sent again: that takes a moment.
        let short = watched.short_since.get_or_insert_with(Instant::now).elapsed();
        if short > self.config.interval * SHORT && !std::mem::replace(&mut watched.told_reused, true) {
            self.context.metrics.archive_reused.add(1, &[]);
            tracing::error!(
                %run, %lane,
                "a run is not archived: the archive has more of it than redis, so its id was used again. \
                 remove the archived one with DELETE /v1/archive/{run}, or use another id"
            );
        }
        // Perhaps it was removed meanwhile.
        watched.archived = None;
    }
}
