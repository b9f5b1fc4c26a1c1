//! The archive: what runs said, in object storage.
//!
//! A run is Parquet files, the segments, and a log of commits. A commit is created once and never changed, and
//! that is what publishes its segment: see `docs/adr/0006-archive.md`.

mod admin;
mod cache;
mod checksum;
mod commit;
mod draft;
mod error;
mod export;
mod group;
mod load;
mod names;
mod publish;
mod remove;
mod row;
mod run;
mod store;
mod sweep;
mod table;
mod verify;

pub use admin::{export, list, remove, show, verify};
pub use checksum::Sha256;
pub use commit::{Commit, RowGroup, Segment, VERSION};
pub(crate) use draft::Draft;
pub use error::ArchiveError;
pub(crate) use publish::Published;
pub use remove::Removed;
pub use run::ArchivedRun;
pub use verify::Verdict;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use object_store::path::Path;
use runcast_protocol::{Entry, RunId};

use self::cache::Cache;
use self::load::Loaded;
use self::names::Names;
use self::store::Store;
use crate::config::ArchiveConfig;

/// Row groups and commits of all runs' indexes that are kept in memory, some 200 bytes each.
const CACHED_INDEX: usize = 200_000;
/// Bytes of messages that are kept in memory, for those who read on where they stopped.
const CACHED_BYTES: usize = 32 << 20;

/// The archive. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Archive(Option<Arc<Shared>>);

/// Row groups that were read, by their segment and where they begin in it.
type Groups = Cache<(Path, u64), Arc<Vec<Entry>>>;

/// What all clones share.
#[derive(Debug)]
struct Shared {
    store: Store,
    names: Names,
    runs: Mutex<Cache<RunId, Loaded>>,
    /// By the segment's path and the row group's place in it.
    groups: Mutex<Groups>,
}

impl Archive {
    /// The archive that the configuration names; one that holds nothing if it names none.
    ///
    /// # Errors
    /// [`ArchiveError`] if the address cannot be used.
    pub fn open(config: &ArchiveConfig) -> Result<Self, ArchiveError> {
        if config.url.is_empty() {
            return Ok(Self(None));
        }
        let store = Store::open(&config.url)?;
        Ok(Self(Some(Arc::new(Shared {
            names: Names::below(store.root()),
            store,
            runs: Mutex::new(Cache::new(CACHED_INDEX)),
            groups: Mutex::new(Cache::new(CACHED_BYTES)),
        }))))
    }

    /// Whether there is one: without an address nothing is archived.
    pub fn is_configured(&self) -> bool {
        self.0.is_some()
    }

    /// The runs that are archived, as a whole or in part; in order of their names. One that is just being
    /// removed may be among them.
    ///
    /// # Errors
    /// [`ArchiveError`] if the archive cannot be asked.
    pub async fn runs(&self) -> Result<Vec<RunId>, ArchiveError> {
        let Some(shared) = &self.0 else { return Ok(Vec::new()) };
        let folders = shared.store.folders(shared.names.runs()).await?;
        let mut runs: Vec<RunId> = folders.iter().filter_map(|folder| names::run(folder)).collect();
        runs.sort_unstable();
        Ok(runs)
    }

    /// What is archived of a run, at most a second ago; none if nothing is.
    ///
    /// # Errors
    /// [`ArchiveError`] if the archive cannot be asked.
    pub async fn run(&self, run: &RunId) -> Result<Option<ArchivedRun>, ArchiveError> {
        let Some(shared) = &self.0 else { return Ok(None) };
        match shared.recent(run) {
            Some(recent) => Ok(Some(recent)),
            None => shared.load(run).await,
        }
    }

    /// What is archived of a run now.
    ///
    /// # Errors
    /// [`ArchiveError`] if the archive cannot be asked.
    pub async fn run_now(&self, run: &RunId) -> Result<Option<ArchivedRun>, ArchiveError> {
        let Some(shared) = &self.0 else { return Ok(None) };
        shared.load(run).await
    }
}

impl Shared {
    // A panic while holding a lock leaves a cache that works.
    fn runs(&self) -> MutexGuard<'_, Cache<RunId, Loaded>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn groups(&self) -> MutexGuard<'_, Groups> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
