//! The temporary folder of one `runcast dev`.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use rustix::process::{Pid, test_kill_process};

const PREFIX: &str = "runcast-dev-";

/// A folder that goes with this value.
#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// Makes the folder; removes those that others, who are dead, left behind.
    ///
    /// # Errors
    /// If it cannot be made.
    pub(crate) fn create() -> anyhow::Result<Self> {
        let temporary = std::env::temp_dir();
        remove_stale(&temporary);
        let path = temporary.join(format!("{PREFIX}{}", std::process::id()));
        let context = || format!("cannot make the folder {}", path.display());
        DirBuilder::new().mode(0o700).create(&path).with_context(context)?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Leaves the folder, for whoever wants to know why. The next start removes it.
    pub(crate) fn keep_logs(self) {
        std::mem::forget(self);
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next start.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Tries only: what belongs to somebody else stays.
fn remove_stale(temporary: &Path) {
    let Ok(entries) = fs::read_dir(temporary) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let pid =
            name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.parse().ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid
            && is_stale(pid)
            && entry.file_type().is_ok_and(|kind| kind.is_dir())
        {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Our own pid's folder, if there is one, was left by an earlier process of that pid.
fn is_stale(pid: Pid) -> bool {
    pid == rustix::process::getpid() || test_kill_process(pid) == Err(rustix::io::Errno::SRCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_folders_of_dead_processes_are_removed() {
        let temporary = tempfile::tempdir().unwrap();
        let mut dead = std::process::Command::new("true").spawn().unwrap();
        dead.wait().unwrap();
        let stale = temporary.path().join(format!("{PREFIX}{}", dead.id()));
        let alive = temporary.path().join(format!("{PREFIX}1"));
        let other = temporary.path().join("runcast-dev-notes");
        for folder in [&stale, &alive, &other] {
            fs::create_dir_all(folder.join("inside")).unwrap();
        }
        remove_stale(temporary.path());
        assert!(!stale.exists() && alive.exists() && other.exists());
    }
}
