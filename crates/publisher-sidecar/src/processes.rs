//! What the kernel says of the agent's processes, in `/proc`.

use std::fs;
use std::io;
use std::path::Path;

use rustix::process::{Pid, Signal};

/// Whom signals to the agent reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// All processes of the group that it leads.
    Group(Pid),
    /// The agent's own process: on a terminal it shares our group.
    Process(Pid),
}

/// How many processes there are, and how many of them stand still. One counts as standing still when
/// every thread of it does; one that has ended and was not waited for does not count at all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Census {
    /// Processes that have not ended.
    pub processes: u32,
    /// Those of them that are stopped.
    pub stopped: u32,
}

/// Looks at the processes that signals reach, again and again.
#[derive(Debug)]
pub(crate) struct Watch {
    reach: Reach,
    /// The members that the first look found.
    members: Option<Vec<String>>,
}

impl Watch {
    pub(crate) fn new(reach: Reach) -> Self {
        Self { reach, members: None }
    }

    /// Forgets who is in the group: it may have grown.
    pub(crate) fn forget(&mut self) {
        self.members = None;
    }

    /// Counts. The members are looked for only the first time: a signal to a group reaches all of it at
    /// once, and a child that is being made while it comes is not made (`copy_process` in Linux, as POSIX
    /// has it), so nobody joins who has not got it.
    pub(crate) fn look(&mut self) -> Census {
        let members = match self.members.take() {
            Some(members) => members,
            None => self.find(),
        };
        let mut census = Census::default();
        for state in members.iter().filter_map(|pid| standing(Path::new("/proc"), pid)) {
            census.processes += 1;
            census.stopped += u32::from(state == Standing::Stopped);
        }
        self.members = Some(members);
        census
    }

    fn find(&self) -> Vec<String> {
        match self.reach {
            Reach::Process(pid) => vec![pid.as_raw_nonzero().to_string()],
            Reach::Group(group) => members(group).unwrap_or_else(|error| {
                tracing::warn!(%error, "cannot look for the agent's processes");
                Vec::new()
            }),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Running,
    Stopped,
}

fn members(group: Pid) -> io::Result<Vec<String>> {
    let mut members = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Ok(pid) = entry?.file_name().into_string() else { continue };
        if !pid.bytes().all(|b| b.is_ascii_digit()) {
            continue;
        }
        // One that is gone by now is no member.
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        if parse(&stat).is_some_and(|(_, of)| of == group.as_raw_nonzero().get()) {
            members.push(pid);
        }
    }
    Ok(members)
}

/// How a process stands; none if it has ended. One that sleeps in the kernel stands still once a stop is
/// pending: it does nothing of its own before it is stopped. A shell that starts a program sleeps so until
/// its child has become that program (`vfork`), which a child that is stopped first never does.
fn standing(proc: &Path, pid: &str) -> Option<Standing> {
    let threads = fs::read_dir(proc.join(pid).join("task")).ok()?;
    let (mut stopped, mut asleep, mut pending) = (false, false, false);
    for thread in threads.filter_map(Result::ok) {
        let read = |name: &str| fs::read_to_string(thread.path().join(name)).unwrap_or_default();
        match parse(&read("stat")) {
            // proc(5): stopped on a signal, or by who traces it.
            Some(('T' | 't', _)) => stopped = true,
            Some(('D', _)) => {
                asleep = true;
                pending |= has_pending_stop(&read("status"));
            }
            Some(('Z' | 'X' | 'x', _)) | None => {}
            Some(_) => return Some(Standing::Running),
        }
    }
    match (stopped, asleep) {
        (false, false) => None,
        (false, true) if !pending => Some(Standing::Running),
        _ => Some(Standing::Stopped),
    }
}

/// Whether SIGSTOP has been sent and not taken yet, to the thread or its process, in `/proc/<pid>/status`.
fn has_pending_stop(status: &str) -> bool {
    let masks =
        status.lines().filter_map(|line| line.strip_prefix("SigPnd:").or(line.strip_prefix("ShdPnd:")));
    let mut masks = masks.filter_map(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    masks.any(|mask| mask & (1 << (Signal::STOP.as_raw() - 1)) != 0)
}

/// State and process group in a line of `/proc/<pid>/stat`. The name in parentheses may hold anything.
fn parse(stat: &str) -> Option<(char, i32)> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let group = fields.nth(1)?.parse().ok()?;
    Some((state, group))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_full_of_parentheses_does_not_mislead() {
        assert_eq!(parse("42 (a) R (b) T 1 77 77 0 -1"), Some(('T', 77)));
        assert_eq!(parse("42 (sh) S 1"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn a_process_stands_still_when_all_its_threads_do() {
        let proc = tempfile::tempdir().unwrap();
        let thread = |pid: &str, thread: &str, state: char| {
            let folder = proc.path().join(pid).join("task").join(thread);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("stat"), format!("{thread} (x) {state} 1 7 7 0")).unwrap();
        };
        thread("1", "1", 'T');
        thread("1", "2", 'R');
        thread("2", "2", 'Z');
        thread("2", "3", 'T');
        thread("3", "3", 'Z');
        let status = |pid: &str, pending: &str| {
            let path = proc.path().join(pid).join("task").join(pid).join("status");
            fs::write(path, format!("Name:\tsh\nSigPnd:\t0000000000000000\nShdPnd:\t{pending}\n")).unwrap();
        };
        thread("5", "5", 'D');
        status("5", "0000000000040000");
        thread("6", "6", 'D');
        status("6", "0000000000020000");
        thread("7", "7", 'D');
        thread("7", "8", 'T');
        let of = |pid| standing(proc.path(), pid);
        assert_eq!(of("5"), Some(Standing::Stopped), "it sleeps, and will be stopped when it wakes");
        assert_eq!(of("6"), Some(Standing::Running), "another signal is pending");
        assert_eq!(of("7"), Some(Standing::Stopped));
        assert_eq!(of("1"), Some(Standing::Running));
        assert_eq!(of("2"), Some(Standing::Stopped), "its first thread has ended, another stands still");
        assert_eq!(of("3"), None, "ended, and not waited for");
        assert_eq!(of("4"), None);
    }
}
