//! A commit: what one entry of a run's log says. Pure.
//!
//! The log alone says what the archive holds of a run: a segment that no commit names is not there.

use std::collections::BTreeMap;

use bytes::Bytes;
use runcast_protocol::timestamp::Text as Time;
use runcast_protocol::{Gap, Json, Lane, RunId, Sequence};
use serde::{Deserialize, Serialize};

use super::ArchiveError;
use super::checksum::Sha256;

/// The version of the format that this writes, and the highest that it reads.
pub const VERSION: u32 = 1;

/// What one entry of a run's log says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Commit {
    /// Version of the format.
    pub version: u32,
    /// The run.
    pub run_id: RunId,
    /// Its number in the log, from 1.
    pub number: u64,
    /// When it was made.
    pub created: Time,
    /// What it adds; none if it only says that the run is over, or what is missing.
    pub segment: Option<Segment>,
    /// What Redis had no more when it was to be archived.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<Gap>,
    /// How far each lane is archived with it.
    pub lanes: BTreeMap<Lane, Sequence>,
    /// Whether the run was over, and all of it is in with this.
    pub complete: bool,
    /// The read model of all that is archived with it. Kept as it came: its own version may differ.
    pub summary: Json,
}

/// A file of messages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// Its name in the run's `segments`.
    pub name: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// Its checksum.
    pub sha256: Sha256,
    /// Messages in it.
    pub rows: u64,
    /// Bytes of these messages as they came, uncompressed.
    pub raw_bytes: u64,
    /// Where which messages are, in order of lanes and sequences.
    pub row_groups: Vec<RowGroup>,
}

/// Consecutive messages of one lane, about a mebibyte of them: what is read at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowGroup {
    /// The lane.
    pub lane: Lane,
    /// Sequence of the first message.
    pub first: Sequence,
    /// Sequence of the last one.
    pub last: Sequence,
    /// Messages.
    pub rows: u64,
    /// The earliest time that one of them says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_time: Option<Time>,
    /// The latest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_time: Option<Time>,
    /// Of an output lane: bytes of the text (UTF-8) that they say together.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub text_bytes: u64,
    /// Bytes of the messages as they came.
    pub raw_bytes: u64,
    /// Where in the file the column `message` of the row group begins.
    pub offset: u64,
    /// And its length in bytes.
    pub length: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Commit {
    /// Reads a commit of a run.
    ///
    /// # Errors
    /// [`ArchiveError`] if a newer version wrote it, or it is not what it should be.
    pub fn parse(text: &[u8], run: &RunId, number: u64) -> Result<Self, ArchiveError> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let damaged = |why: String| ArchiveError::Damaged(format!("commit {number} of run {run} {why}"));
        let Version { version } =
            serde_json::from_slice(text).map_err(|error| damaged(format!("cannot be read: {error}")))?;
        if version > VERSION || version == 0 {
            return Err(ArchiveError::Version(format!(
                "commit {number} of run {run} has format version {version}, and this runcast-replay reads up \
                 to {VERSION}: it needs a newer one"
            )));
        }
        let commit: Self =
            serde_json::from_slice(text).map_err(|error| damaged(format!("cannot be read: {error}")))?;
        if commit.run_id != *run || commit.number != number {
            return Err(damaged(format!("says it is commit {} of run {}", commit.number, commit.run_id)));
        }
        Ok(commit)
    }

    /// The commit as JSON.
    pub fn to_bytes(&self) -> Bytes {
        serde_json::to_vec(self).expect("commits are made of JSON types").into()
    }

    /// Its row groups; none without a segment.
    pub fn row_groups(&self) -> &[RowGroup] {
        self.segment.as_ref().map_or(&[], |segment| &segment.row_groups)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit() -> Commit {
        Commit {
            version: VERSION,
            run_id: RunId::new("a").unwrap(),
            number: 3,
            created: Time(jiff::Timestamp::UNIX_EPOCH),
            segment: None,
            gaps: Vec::new(),
            lanes: [("output/var-1".parse().unwrap(), Sequence::new(7).unwrap())].into(),
            complete: true,
            summary: Json::empty_object(),
        }
    }

    #[test]
    fn a_commit_reads_as_it_was_written() {
        let commit = commit();
        let text = commit.to_bytes();
        assert_eq!(Commit::parse(&text, &commit.run_id, 3).unwrap(), commit);
    }

    #[test]
    fn an_unknown_version_says_what_is_needed() {
        let text = r#"{"version":2,"something":"else"}"#;
        let error = Commit::parse(text.as_bytes(), &RunId::new("a").unwrap(), 3).unwrap_err().to_string();
        assert!(error.contains("version 2") && error.contains("newer"), "{error}");
    }

    #[test]
    fn what_is_no_commit_or_another_ones_is_damage() {
        let other = RunId::new("b").unwrap();
        for (text, run, number) in [
            (Bytes::from_static(b"{}"), commit().run_id, 3),
            (Bytes::from_static(b""), commit().run_id, 3),
            (Bytes::from_static(b"{\"version\":1}"), commit().run_id, 3),
            (commit().to_bytes(), other, 3),
            (commit().to_bytes(), commit().run_id, 4),
        ] {
            let error = Commit::parse(&text, &run, number).unwrap_err();
            assert!(matches!(error, ArchiveError::Damaged(_)), "{error}");
        }
    }
}
