//! Reading a run's log.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, TryStreamExt};
use object_store::ObjectMeta;
use runcast_protocol::RunId;

use super::commit::Commit;
use super::run::ArchivedRun;
use super::{ArchiveError, Shared, names};

/// How long what is known of a run is taken for true without asking.
const RECENT: Duration = Duration::from_secs(1);
/// Commits that are read at the same time.
const AT_ONCE: usize = 8;

/// A run as it was last read.
#[derive(Debug, Clone)]
pub(super) struct Loaded {
    run: ArchivedRun,
    /// The last commit's object: another one in its place tells that all is new.
    last: ObjectMeta,
    checked: Instant,
}

impl Shared {
    /// A run that was looked at just now.
    pub(super) fn recent(&self, run: &RunId) -> Option<ArchivedRun> {
        let loaded = self.runs().get(run)?;
        (loaded.checked.elapsed() < RECENT).then_some(loaded.run)
    }

    /// Forgets what is known of a run.
    pub(super) fn forget(&self, run: &RunId) {
        self.runs().remove(run);
    }

    /// What is archived of a run now. What was read before is not read again.
    pub(super) async fn load(self: &Arc<Self>, run: &RunId) -> Result<Option<ArchivedRun>, ArchiveError> {
        let known = self.runs().get(run);
        if let Some(known) = known {
            let number = known.run.number();
            let before = self.names.commit(run, number - 1);
            let found = self.store.list_after(&self.names.log(run), &before).await?;
            if found.first().is_some_and(|first| is_same(first, &known.last)) {
                return self.extend(run, known.run.commits().to_vec(), &found[1..], &known.last).await;
            }
            self.forget(run);
        }
        let found = self.store.list(&self.names.log(run)).await?;
        match found.first() {
            Some(first) => {
                let first = first.clone();
                self.extend(run, Vec::new(), &found, &first).await
            }
            None => Ok(None),
        }
    }

    /// The run with further commits; none if it is being removed, which begins with its first commit.
    async fn extend(
        self: &Arc<Self>,
        run: &RunId,
        mut commits: Vec<Arc<Commit>>,
        found: &[ObjectMeta],
        last: &ObjectMeta,
    ) -> Result<Option<ArchivedRun>, ArchiveError> {
        for (number, object) in (commits.len() as u64 + 1..).zip(found) {
            if object.location.filename().and_then(names::number) != Some(number) {
                if commits.is_empty() && number == 1 {
                    return Ok(None);
                }
                return Err(ArchiveError::Damaged(format!(
                    "the log of run {run} lacks commit {number}, and holds {}",
                    object.location
                )));
            }
        }
        let last = found.last().unwrap_or(last).clone();
        let begin = commits.len() as u64 + 1;
        let numbers: Vec<u64> = (begin..begin + found.len() as u64).collect();
        let read = futures_util::stream::iter(numbers)
            .map(|number| async move {
                let text = self.store.get(&self.names.commit(run, number)).await?;
                Commit::parse(&text, run, number).map(Arc::new)
            })
            .buffered(AT_ONCE)
            .try_collect::<Vec<_>>()
            .await;
        match read {
            Ok(read) => commits.extend(read),
            // Removed since it was listed.
            Err(error) if error.is_missing() => {
                self.forget(run);
                return Ok(None);
            }
            Err(error) => return Err(error),
        }
        let loaded = ArchivedRun::of(self, run, commits)?;
        let weight = loaded.weight();
        let checked = Instant::now();
        self.runs().put(run.clone(), Loaded { run: loaded.clone(), last, checked }, weight);
        Ok(Some(loaded))
    }
}

fn is_same(a: &ObjectMeta, b: &ObjectMeta) -> bool {
    a.location == b.location && a.size == b.size && a.last_modified == b.last_modified
}
