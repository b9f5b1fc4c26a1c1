//! Reading everything that is archived of a run, to see whether it is what was written.

use bytes::Bytes;
use parquet::file::metadata::ParquetMetaDataReader;
use runcast_protocol::RunId;
use serde::Serialize;

use super::checksum::Sha256;
use super::commit::{Commit, Segment};
use super::{Archive, ArchiveError, ArchivedRun, group};

/// Problems that are told; further ones are only counted as not well.
const TOLD: usize = 100;

/// What reading everything showed.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Whether all is as it was written.
    pub ok: bool,
    /// Segments that were read.
    pub segments: u64,
    /// Messages that were read.
    pub messages: u64,
    /// What is wrong, for people; the first hundred.
    pub problems: Vec<String>,
}

impl Archive {
    /// Reads all that is archived of a run, one segment after the other; none if nothing is.
    ///
    /// # Errors
    /// [`ArchiveError`] if the store fails. Damage is no error, but told.
    pub async fn verify(&self, run: &RunId) -> Result<Option<Verdict>, ArchiveError> {
        let mut verdict = Verdict { ok: true, ..Verdict::default() };
        let archived = match self.run_now(run).await {
            Ok(None) => return Ok(None),
            Ok(Some(archived)) => archived,
            Err(error @ (ArchiveError::Damaged(_) | ArchiveError::Version(_))) => {
                verdict.wrong(error.to_string());
                return Ok(Some(verdict));
            }
            Err(error) => return Err(error),
        };
        let Some(shared) = &self.0 else { return Ok(None) };
        for commit in archived.commits() {
            let Some(segment) = &commit.segment else { continue };
            verdict.segments += 1;
            let path = shared.names.segment(run, &segment.name);
            match shared.store.get(&path).await {
                Ok(bytes) => verdict.read(segment, &bytes),
                Err(error) if error.is_missing() => {
                    verdict.wrong(format!("segment {} is missing", segment.name));
                }
                Err(error) => return Err(error),
            }
        }
        verdict.follow(&archived);
        Ok(Some(verdict))
    }
}

impl Verdict {
    fn wrong(&mut self, problem: String) {
        self.ok = false;
        if self.problems.len() < TOLD {
            self.problems.push(problem);
        }
    }

    /// A segment's file: its checksum, its footer, and each message.
    fn read(&mut self, segment: &Segment, bytes: &Bytes) {
        let name = &segment.name;
        if bytes.len() as u64 != segment.bytes {
            self.wrong(format!("segment {name} has {} bytes instead of {}", bytes.len(), segment.bytes));
        }
        let sha256 = Sha256::of(bytes);
        if sha256 != segment.sha256 {
            self.wrong(format!("segment {name} has sha256 {sha256} instead of {}", segment.sha256));
        }
        match ParquetMetaDataReader::new().parse_and_finish(bytes) {
            Ok(footer) if u64::try_from(footer.file_metadata().num_rows()).ok() == Some(segment.rows) => {}
            Ok(_) => self.wrong(format!("segment {name}: its footer counts other messages than its commit")),
            Err(error) => self.wrong(format!("segment {name}: its footer cannot be read: {error}")),
        }
        for row_group in &segment.row_groups {
            let end = row_group.offset.saturating_add(row_group.length);
            if end > bytes.len() as u64 {
                self.wrong(format!("segment {name} ends before messages {}…", row_group.first));
                continue;
            }
            // Both fit: they are not beyond the length.
            let range = usize::try_from(row_group.offset).unwrap_or(usize::MAX)
                ..usize::try_from(end).unwrap_or(usize::MAX);
            match group::entries(row_group, bytes.slice(range)) {
                Ok(entries) => self.messages += entries.len() as u64,
                Err(error) => self.wrong(format!("segment {name}: {error}")),
            }
        }
    }

    /// Whether the lanes are whole but for the gaps that the commits tell.
    fn follow(&mut self, archived: &ArchivedRun) {
        let mut lanes = std::collections::BTreeMap::new();
        for commit in archived.commits() {
            let Commit { number, gaps, .. } = &**commit;
            let said = commit.row_groups().iter().map(|group| (&group.lane, group.first, group.last));
            let lacked = gaps.iter().map(|gap| (&gap.lane, gap.first, gap.last));
            let mut pieces: Vec<_> = said.chain(lacked).collect();
            pieces.sort_unstable();
            for (lane, first, last) in pieces {
                let position = lanes.entry(lane.clone()).or_default();
                if first != next(*position) {
                    self.wrong(format!("commit {number}: {lane} goes on at {first} after {position}"));
                }
                *position = last;
            }
            if lanes.iter().any(|(lane, position)| commit.lanes.get(lane) != Some(position)) {
                self.wrong(format!("commit {number}: its lanes stand elsewhere than what it holds"));
            }
        }
    }
}

fn next(position: runcast_protocol::Sequence) -> runcast_protocol::Sequence {
    position.next()
}
