//! What the kernel says of the agent's processes, in `/proc`.

use std::fs;
use std::io;
use std::path::Path;

use rustix::process::Pid;

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

/// How a process stands; none if it has ended.
fn standing(proc: &Path, pid: &str) -> Option<Standing> {
    let threads = fs::read_dir(proc.join(pid).join("task")).ok()?;
    let mut standing = None;
    for thread in threads.filter_map(Result::ok) {
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        match parse(&stat) {
            // proc(5): stopped on a signal, or by who traces it.
            Some(('T' | 't', _)) => standing = standing.or(Some(Standing::Stopped)),
            Some(('Z' | 'X' | 'x', _)) | None => {}
            Some(_) => standing = Some(Standing::Running),
        }
    }
    standing
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
        let of = |pid| standing(proc.path(), pid);
        assert_eq!(of("1"), Some(Standing::Running));
        assert_eq!(of("2"), Some(Standing::Stopped), "its first thread has ended, another stands still");
        assert_eq!(of("3"), None, "ended, and not waited for");
        assert_eq!(of("4"), None);
    }
}
