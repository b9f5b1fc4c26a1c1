//! Child processes that do not outlive their parent, however it ends.

use std::{io, os::unix::process::CommandExt as _};

use rustix::process::{Pid, Signal, getpid, getppid, set_parent_process_death_signal};

/// The child gets SIGKILL when its parent dies, even by SIGKILL (`PR_SET_PDEATHSIG` of prctl(2)).
///
/// Beware: the kernel's "parent" is the **thread** that spawned, not the process. Spawn from a thread
/// that lives as long as the child should: from the task given to `block_on` (the body of an
/// `async fn main`), or from a plain thread. A runtime's worker may end early (one that calls
/// `block_in_place` becomes a blocking thread, which ends when idle), and a `spawn_blocking` thread
/// surely does. It holds for the child alone, not for its own children, and a program that is
/// set-user-ID, set-group-ID or has file capabilities clears it.
pub fn tie_to_parent(command: &mut tokio::process::Command) {
    tie_std_to_parent(command.as_std_mut());
}

/// [`tie_to_parent`] for the standard library's command.
#[expect(unsafe_code, reason = "pre_exec is the only place between fork and exec")]
pub fn tie_std_to_parent(command: &mut std::process::Command) {
    let parent = getpid();
    // SAFETY: between fork and exec only async-signal-safe calls are allowed. `tie` makes two system
    // calls, allocates nothing and takes no lock.
    unsafe {
        command.pre_exec(move || tie(parent));
    }
}

fn tie(parent: Pid) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // A parent that died before the line above sends no signal any more. Then this is an orphan
    // already: failing here ends it before it becomes the program.
    if getppid() == Some(parent) { Ok(()) } else { Err(rustix::io::Errno::SRCH.into()) }
}
