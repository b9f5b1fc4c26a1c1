//! What is archived of one run, and where in it to find what.

use std::collections::BTreeMap;
use std::sync::Arc;

use runcast_protocol::timestamp::Text as Time;
use runcast_protocol::{Cursor, Entry, Gap, Lane, RunId, Sequence};

use super::commit::{Commit, RowGroup};
use super::{ArchiveError, Shared, group};
use crate::readmodel::Summary;

/// What is archived of a run, as of when it was asked for. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ArchivedRun(Arc<Index>);

#[derive(Debug)]
struct Index {
    archive: Arc<Shared>,
    run: RunId,
    /// At least one.
    commits: Vec<Arc<Commit>>,
    lanes: BTreeMap<Lane, Vec<Place>>,
    cursor: Cursor,
    summary: Summary,
}

/// Where a row group is.
#[derive(Debug, Clone, Copy)]
struct Place {
    commit: usize,
    group: usize,
    last: Sequence,
    /// Bytes of the lane's text before it.
    text_before: u64,
}

impl ArchivedRun {
    /// Puts the index together.
    ///
    /// # Errors
    /// [`ArchiveError::Damaged`] if the commits do not follow one another.
    pub(super) fn of(
        archive: &Arc<Shared>,
        run: &RunId,
        commits: Vec<Arc<Commit>>,
    ) -> Result<Self, ArchiveError> {
        let mut lanes: BTreeMap<Lane, Vec<Place>> = BTreeMap::new();
        for (commit_index, commit) in commits.iter().enumerate() {
            for (group_index, group) in commit.row_groups().iter().enumerate() {
                let places = lanes.entry(group.lane.clone()).or_default();
                let before = places.last().copied();
                let (last, text_before) = before.map_or((Sequence::NONE, 0), |place| {
                    (place.last, place.text_before + place.of(&commits).text_bytes)
                });
                if group.first <= last || group.last < group.first {
                    let (lane, number) = (&group.lane, commit.number);
                    return Err(ArchiveError::Damaged(format!(
                        "commit {number} of run {run} repeats messages of {lane} from {} on",
                        group.first
                    )));
                }
                places.push(Place {
                    commit: commit_index,
                    group: group_index,
                    last: group.last,
                    text_before,
                });
            }
        }
        let Some(last) = commits.last() else {
            return Err(ArchiveError::Damaged(format!("the log of run {run} is empty")));
        };
        let cursor: Cursor = last.lanes.iter().map(|(lane, last)| (lane.clone(), *last)).collect();
        // Another version's read model begins anew: it says so by its own cursor.
        let summary = last.summary.read().unwrap_or_default();
        let (archive, run) = (archive.clone(), run.clone());
        Ok(Self(Arc::new(Index { archive, run, commits, lanes, cursor, summary })))
    }

    /// The run.
    pub fn id(&self) -> &RunId {
        &self.0.run
    }

    /// How far each lane is archived, from its beginning on.
    pub fn cursor(&self) -> &Cursor {
        &self.0.cursor
    }

    /// The read model of what is archived. Its own cursor tells how far it goes: less far than
    /// [`ArchivedRun::cursor`] if another version wrote it in a form that this one does not read.
    pub fn summary(&self) -> &Summary {
        &self.0.summary
    }

    /// Whether the run was over, and all of it is here.
    pub fn is_complete(&self) -> bool {
        self.last_commit().complete
    }

    /// Number of the last commit.
    pub fn number(&self) -> u64 {
        self.last_commit().number
    }

    /// When the last commit was made.
    pub fn archived_at(&self) -> Time {
        self.last_commit().created
    }

    /// All commits, in order; at least one.
    pub fn commits(&self) -> &[Arc<Commit>] {
        &self.0.commits
    }

    /// What was not there any more when it was to be archived.
    pub fn gaps(&self) -> impl Iterator<Item = &Gap> {
        self.0.commits.iter().flat_map(|commit| &commit.gaps)
    }

    /// The row groups of a lane, in order.
    pub fn row_groups(&self, lane: &Lane) -> impl DoubleEndedIterator<Item = &RowGroup> {
        self.places(lane).iter().map(|place| place.of(&self.0.commits))
    }

    /// Messages of a lane, the next ones after `after`: at least one if any is archived, and not more than
    /// about a mebibyte. A hole before them is one that was never there to be archived.
    ///
    /// # Errors
    /// [`ArchiveError`] if the archive cannot be read, or is damaged.
    pub async fn after(&self, lane: &Lane, after: Sequence) -> Result<Vec<Entry>, ArchiveError> {
        let places = self.places(lane);
        let Some(place) = places.get(places.partition_point(|place| place.last <= after)) else {
            return Ok(Vec::new());
        };
        let entries = self.read(*place).await?;
        let begin = entries.partition_point(|entry| entry.sequence <= after);
        Ok(entries[begin..].to_vec())
    }

    /// The same backwards: messages of a lane up to and with `upto`, in order, the last ones of these.
    ///
    /// # Errors
    /// [`ArchiveError`] if the archive cannot be read, or is damaged.
    pub async fn upto(&self, lane: &Lane, upto: Sequence) -> Result<Vec<Entry>, ArchiveError> {
        let places = self.places(lane);
        let begins = |place: &Place| place.of(&self.0.commits).first;
        let end = places.partition_point(|place| begins(place) <= upto);
        let Some(place) = end.checked_sub(1).and_then(|index| places.get(index)) else {
            return Ok(Vec::new());
        };
        let entries = self.read(*place).await?;
        let end = entries.partition_point(|entry| entry.sequence <= upto);
        Ok(entries[..end].to_vec())
    }

    /// Bytes of the text (UTF-8) that is archived of an output lane; 0 for other lanes.
    pub fn text_len(&self, lane: &Lane) -> u64 {
        self.places(lane).last().map_or(0, |place| place.text_before + place.of(&self.0.commits).text_bytes)
    }

    /// Where to begin to read a lane's text from a byte on: after which message, and how many bytes of text
    /// come up to there. At the text's end, or beyond: after the last message.
    pub fn text_at(&self, lane: &Lane, byte: u64) -> (Sequence, u64) {
        let places = self.places(lane);
        let index =
            places.partition_point(|place| place.text_before + place.of(&self.0.commits).text_bytes <= byte);
        match places.get(index) {
            Some(place) => (place.of(&self.0.commits).first.previous(), place.text_before),
            None => (places.last().map_or(Sequence::NONE, |place| place.last), self.text_len(lane)),
        }
    }

    /// What it weighs in a cache: row groups and commits.
    pub(super) fn weight(&self) -> usize {
        self.0.commits.len() + self.0.lanes.values().map(Vec::len).sum::<usize>()
    }

    fn last_commit(&self) -> &Commit {
        self.0.commits.last().expect("made with at least one")
    }

    fn places(&self, lane: &Lane) -> &[Place] {
        self.0.lanes.get(lane).map_or(&[], Vec::as_slice)
    }

    /// All messages of a row group.
    async fn read(&self, place: Place) -> Result<Arc<Vec<Entry>>, ArchiveError> {
        let Index { archive, run, commits, .. } = &*self.0;
        let Some(segment) = &commits[place.commit].segment else { return Ok(Arc::default()) };
        let key = (archive.names.segment(run, &segment.name), place.group as u64);
        if let Some(entries) = archive.groups().get(&key) {
            return Ok(entries);
        }
        let group = place.of(commits);
        let chunk = archive.store.range(&key.0, group.offset..group.offset + group.length).await;
        let chunk = chunk.inspect_err(|error| {
            if error.is_missing() {
                // Removed since.
                archive.forget(run);
            }
        })?;
        let entries = group::entries(group, chunk)
            .map_err(|error| ArchiveError::Damaged(format!("segment {}: {error}", segment.name)))?;
        let entries = Arc::new(entries);
        let weight =
            usize::try_from(group.raw_bytes).unwrap_or(usize::MAX).saturating_add(64 * entries.len());
        archive.groups().put(key, entries.clone(), weight);
        Ok(entries)
    }
}

impl Place {
    fn of(self, commits: &[Arc<Commit>]) -> &RowGroup {
        &commits[self.commit].row_groups()[self.group]
    }
}
