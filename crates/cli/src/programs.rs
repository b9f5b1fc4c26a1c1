//! Where the other programs are.

use std::env;
use std::ffi::OsStr;
use std::path::PathBuf;

use anyhow::Context;

/// A program of ours: next to this one, else on the PATH.
///
/// # Errors
/// If it is in neither place.
pub(crate) fn own(name: &str) -> anyhow::Result<PathBuf> {
    beside(name).or_else(|| on_path(name.as_ref())).with_context(|| {
        format!(
            "{name} is neither beside this program nor on the PATH; build it with `cargo build --workspace`"
        )
    })
}

/// A program of ours as one types it here: its name if the PATH has it, else the whole path.
pub(crate) fn as_typed(name: &str) -> String {
    if on_path(name.as_ref()).is_some() {
        return name.to_owned();
    }
    let Some(path) = beside(name) else { return name.to_owned() };
    let here = env::current_dir().ok().and_then(|here| Some(path.strip_prefix(here).ok()?.to_owned()));
    here.unwrap_or(path).display().to_string()
}

/// redis-server: `RUNCAST_REDIS_SERVER`, else on the PATH, else what `make tools` put beside the build.
///
/// # Errors
/// If there is none.
pub(crate) fn redis_server() -> anyhow::Result<PathBuf> {
    if let Some(path) = env::var_os("RUNCAST_REDIS_SERVER").filter(|path| !path.is_empty()) {
        let path = PathBuf::from(path);
        anyhow::ensure!(path.is_file(), "RUNCAST_REDIS_SERVER={} is not a program", path.display());
        return Ok(path);
    }
    let tools = || {
        let own = env::current_exe().ok()?;
        own.ancestors().map(|folder| folder.join("tools/redis-server")).find(|path| path.is_file())
    };
    on_path("redis-server".as_ref()).or_else(tools).context(
        "there is no redis-server on the PATH; `make tools` fetches one, or set RUNCAST_REDIS_SERVER to the program",
    )
}

fn beside(name: &str) -> Option<PathBuf> {
    let path = env::current_exe().ok()?.with_file_name(name);
    path.is_file().then_some(path)
}

fn on_path(name: &OsStr) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join(name)).find(|path| path.is_file())
}
