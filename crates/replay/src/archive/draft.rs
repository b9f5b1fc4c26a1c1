//! A commit in the making.

use std::collections::BTreeMap;

use bytes::Bytes;
use parquet::errors::ParquetError;
use runcast_protocol::timestamp::{self, Text};
use runcast_protocol::{Entry, Gap, Json, Lane, RunId, Sequence};

use super::checksum::Sha256;
use super::commit::{Commit, Segment, VERSION};
use super::table::Table;
use super::{ArchiveError, ArchivedRun, names};
use crate::readmodel::Summary;

/// A commit in the making, and its segment.
#[derive(Debug)]
pub(crate) struct Draft {
    run: RunId,
    number: u64,
    table: Table,
    gaps: Vec<Gap>,
    lanes: BTreeMap<Lane, Sequence>,
    summary: Summary,
}

impl Draft {
    /// What is to follow after what is archived of the run, if anything is.
    ///
    /// # Errors
    /// [`ArchiveError::Write`] if no file can be begun.
    pub(crate) fn after(run: &RunId, archived: Option<&ArchivedRun>) -> Result<Self, ArchiveError> {
        Ok(Self {
            run: run.clone(),
            number: archived.map_or(0, ArchivedRun::number) + 1,
            table: Table::new(run).map_err(failed)?,
            gaps: Vec::new(),
            lanes: archived.map(|archived| archived.cursor().lanes().collect()).unwrap_or_default(),
            summary: archived.map(|archived| archived.summary().clone()).unwrap_or_default(),
        })
    }

    /// How far a lane is archived with it.
    pub(crate) fn position(&self, lane: &Lane) -> Sequence {
        self.lanes.get(lane).copied().unwrap_or_default()
    }

    /// Adds messages of a lane, in order.
    ///
    /// # Errors
    /// [`ArchiveError::Write`] if they cannot be written.
    pub(crate) fn push(&mut self, lane: &Lane, entries: &[Entry]) -> Result<(), ArchiveError> {
        for entry in entries {
            self.table.push(lane, entry).map_err(failed)?;
            self.lanes.insert(lane.clone(), entry.sequence);
        }
        self.summary.apply(lane, entries);
        Ok(())
    }

    /// Adds that messages are missing.
    pub(crate) fn lack(&mut self, gap: Gap) {
        self.lanes.insert(gap.lane.clone(), gap.last);
        self.gaps.push(gap);
    }

    /// Folds into the read model what is archived already, for one that began anew.
    pub(crate) fn recall(&mut self, lane: &Lane, entries: &[Entry]) {
        self.summary.apply(lane, entries);
    }

    /// Bytes of its messages, as they came.
    pub(crate) fn raw_bytes(&self) -> u64 {
        self.table.raw_bytes()
    }

    /// Whether it would say nothing new.
    pub(crate) fn is_empty(&self) -> bool {
        self.table.rows() == 0 && self.gaps.is_empty()
    }

    /// The commit, and its segment's file if it has one.
    ///
    /// # Errors
    /// [`ArchiveError::Write`] if the file cannot be written.
    pub(super) fn finish(self, complete: bool) -> Result<(Commit, Option<Bytes>), ArchiveError> {
        let mut segment = None;
        let mut file = None;
        if self.table.rows() > 0 {
            let written = self.table.finish().map_err(failed)?;
            let sha256 = Sha256::of(&written.bytes);
            segment = Some(Segment {
                name: names::segment(self.number, sha256.as_str()),
                bytes: written.bytes.len() as u64,
                sha256,
                rows: written.rows,
                raw_bytes: written.raw_bytes,
                row_groups: written.groups,
            });
            file = Some(written.bytes);
        }
        let commit = Commit {
            version: VERSION,
            run_id: self.run,
            number: self.number,
            created: Text(timestamp::now()),
            segment,
            gaps: self.gaps,
            lanes: self.lanes,
            complete,
            summary: Json::of(&self.summary),
        };
        Ok((commit, file))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn failed(error: ParquetError) -> ArchiveError {
    ArchiveError::Write(error.to_string())
}
