//! Where an export goes: a file that is whole or not there, or a stream.

use std::fs::{File, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use tempfile::NamedTempFile;

/// Where bytes go. Dropped before [`Target::finish`], a file leaves nothing behind.
#[derive(Debug)]
pub(crate) enum Target {
    /// A temporary file, and the path that it gets in the end.
    File(NamedTempFile, PathBuf),
    /// A pipe or a device: what is written is written.
    Stream(File),
    /// Standard output.
    Stdout,
}

pub(crate) fn is_stdout(path: &Path) -> bool {
    path.as_os_str() == "-"
}

impl Target {
    /// Makes a temporary file beside `path`; `-` is standard output.
    ///
    /// # Errors
    /// If it cannot be written there.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        if is_stdout(path) {
            return Ok(Self::Stdout);
        }
        let context = || format!("cannot write {}", path.display());
        // What a link leads to is replaced, not the link.
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        match path.metadata() {
            Ok(found) if found.is_dir() => anyhow::bail!("{} is a folder; name a file", path.display()),
            Ok(found) if !found.is_file() => {
                return Ok(Self::Stream(File::options().write(true).open(&path).with_context(context)?));
            }
            _ => {}
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // As any new file: what the umask leaves.
        let temporary = tempfile::Builder::new()
            .prefix(".runcast-export-")
            .suffix(".part")
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(folder)
            .with_context(context)?;
        Ok(Self::File(temporary, path))
    }

    /// Writes all of it.
    ///
    /// # Errors
    /// If it cannot, e.g. because the disk is full.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        match self {
            Self::File(file, path) => {
                file.write_all(bytes).with_context(|| format!("cannot write {}", path.display()))
            }
            Self::Stream(file) => Ok(file.write_all(bytes)?),
            Self::Stdout => Ok(io::stdout().lock().write_all(bytes)?),
        }
    }

    /// Forgets what was written; false if that cannot be.
    ///
    /// # Errors
    /// If the file cannot be cut.
    pub(crate) fn restart(&mut self) -> io::Result<bool> {
        let Self::File(file, _) = self else { return Ok(false) };
        file.as_file().set_len(0)?;
        file.seek(SeekFrom::Start(0))?;
        Ok(true)
    }

    /// The bytes from `begin` to the end of what was written; none of a stream.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub(crate) fn tail(&mut self, begin: u64) -> io::Result<Option<Vec<u8>>> {
        let Self::File(file, _) = self else { return Ok(None) };
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(begin))?;
        file.read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    /// Gives a file its name, once it is on the disk.
    ///
    /// # Errors
    /// If it cannot be; then there is nothing.
    pub(crate) fn finish(self) -> anyhow::Result<()> {
        match self {
            Self::File(file, path) => {
                let context = || format!("cannot write {}", path.display());
                file.as_file().sync_all().with_context(context)?;
                file.persist(&path).map_err(|error| error.error).with_context(context)?;
                Ok(())
            }
            Self::Stream(_) => Ok(()),
            Self::Stdout => Ok(io::stdout().flush()?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_there_when_it_is_whole_and_not_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.ndjson");
        std::fs::write(&path, "old").unwrap();
        let mut target = Target::open(&path).unwrap();
        target.write(b"half").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "old");
        assert!(target.restart().unwrap());
        target.write(b"whole").unwrap();
        assert_eq!(target.tail(2).unwrap().unwrap(), b"ole");
        target.finish().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "whole");
        drop(Target::open(&path).unwrap());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
        assert!(Target::open(folder.path()).is_err());
        assert!(Target::open(&folder.path().join("no/such/file")).is_err());
    }
}
