//! One of the journal's files, and the folder they are in.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::error::{JournalError, failed};
use super::ledger::Counts;

/// A file that only ever grows at its end.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) number: u32,
    pub(super) path: PathBuf,
    /// Where the next entry goes. What the file may hold beyond is waste.
    pub(super) length: u64,
    /// How many messages each lane had when the segment was finished.
    pub(super) counts: Counts,
    file: File,
    /// A failed write may have left something behind `length`.
    ragged: bool,
}

impl Segment {
    /// Begins a segment with `head`.
    pub(super) fn create(folder: &Path, number: u32, head: &[u8]) -> Result<Self, JournalError> {
        let path = path(folder, number);
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(failed("create", &path))?;
        let mut segment = Self { number, path, length: 0, counts: Counts::default(), file, ragged: false };
        match segment.append(head) {
            Ok(_) => Ok(segment),
            Err(error) => {
                // If it stays, the next start finds that it was never begun.
                let _ = segment.delete();
                Err(error)
            }
        }
    }

    /// Opens a segment that an earlier process left, and reads all of it.
    pub(super) fn open(folder: &Path, number: u32) -> Result<(Self, Vec<u8>), JournalError> {
        let path = path(folder, number);
        let file = OpenOptions::new().read(true).write(true).open(&path).map_err(failed("open", &path))?;
        let bytes = fs::read(&path).map_err(failed("read", &path))?;
        let length = bytes.len() as u64;
        Ok((Self { number, path, length, counts: Counts::default(), file, ragged: false }, bytes))
    }

    /// Adds `bytes`, all or nothing, and returns where they begin.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<u64, JournalError> {
        if self.ragged {
            self.cut(self.length)?;
        }
        let start = self.length;
        if let Err(error) = self.file.write_all_at(bytes, start) {
            // What was written of it must go, or it would stand between this end and a shorter entry.
            self.ragged = true;
            let _ = self.cut(start);
            return Err(failed("write to", &self.path)(error));
        }
        self.length += bytes.len() as u64;
        Ok(start)
    }

    /// Forgets everything from `length` on.
    pub(super) fn cut(&mut self, length: u64) -> Result<(), JournalError> {
        self.file.set_len(length).map_err(failed("cut", &self.path))?;
        self.length = length;
        self.ragged = false;
        Ok(())
    }

    /// Reads some of it.
    pub(super) fn read(&self, offset: u64, length: u32) -> Result<Vec<u8>, JournalError> {
        let mut bytes = vec![0; length as usize];
        self.file.read_exact_at(&mut bytes, offset).map_err(failed("read", &self.path))?;
        Ok(bytes)
    }

    /// Deletes the file.
    pub(super) fn delete(&self) -> Result<(), JournalError> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("delete", &self.path)(error)),
            _ => Ok(()),
        }
    }
}

/// Makes the folder if need be, and takes it for this process. The lock ends with the file, and so with
/// the process, however that ends.
pub(super) fn lock(folder: &Path) -> Result<File, JournalError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(failed("create the folder", folder))?;
    let file = File::open(folder).map_err(failed("open", folder))?;
    // Also one that somebody else made for us; what is in it is private anyway.
    let _ = file.set_permissions(Permissions::from_mode(0o700));
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => Err(JournalError::Locked(folder.into())),
        Err(error) => Err(failed("lock", folder)(error)),
    }
}

/// The numbers of the folder's segments, in order. Other files are left alone.
pub(super) fn numbers(folder: &Path) -> Result<Vec<u32>, JournalError> {
    let mut numbers = Vec::new();
    for file in fs::read_dir(folder).map_err(failed("list", folder))? {
        let name = file.map_err(failed("list", folder))?.file_name();
        numbers.extend(name.to_str().and_then(number));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn path(folder: &Path, number: u32) -> PathBuf {
    folder.join(format!("{number:020}.journal"))
}

fn number(name: &str) -> Option<u32> {
    name.strip_suffix(".journal").filter(|digits| digits.len() == 20)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_segment_is_new_private_and_never_overwrites_another() {
        let folder = tempfile::tempdir().unwrap();
        let path = Segment::create(folder.path(), 7, b"head").unwrap().path;
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(Segment::create(folder.path(), 7, b"head").is_err());
        assert_eq!(fs::read(&path).unwrap(), b"head");
        assert_eq!(numbers(folder.path()).unwrap(), [7]);
    }

    #[test]
    fn other_files_are_no_segments() {
        assert_eq!(number("00000000000000000012.journal"), Some(12));
        for name in ["12.journal", "00000000000000000012", "+0000000000000000012.journa", "x.journal"] {
            assert_eq!(number(name), None, "{name}");
        }
    }

    #[test]
    fn the_folder_is_made_private_and_locked() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("a/b");
        let lock_held = lock(&folder).unwrap();
        assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(matches!(lock(&folder), Err(JournalError::Locked(_))));
        drop(lock_held);
        lock(&folder).unwrap();
    }
}
