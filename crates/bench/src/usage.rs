//! What processes use, as the kernel counts it.

use std::fs;
use std::time::Duration;

use anyhow::Context;

/// CPU time of a process so far, all its threads, user and kernel, in nanoseconds. Threads that have ended
/// are not in it; the servers' do not end.
///
/// # Errors
/// If the process is gone.
pub fn cpu(pid: u32) -> anyhow::Result<u64> {
    let mut sum = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).with_context(|| format!("process {pid} is gone"))? {
        let text = fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
        sum += text.split(' ').next().and_then(|time| time.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(sum)
}

/// The same as a duration.
///
/// # Errors
/// If the process is gone.
pub fn time_of(pid: u32) -> anyhow::Result<Duration> {
    Ok(Duration::from_nanos(cpu(pid)?))
}

/// The same of several.
///
/// # Errors
/// If one is gone.
pub fn cpu_of(pids: &[u32]) -> anyhow::Result<u64> {
    pids.iter().map(|pid| cpu(*pid)).sum()
}

/// Memory that processes hold in RAM, in bytes, what they share counted once for each.
///
/// # Errors
/// If one is gone.
pub fn rss_of(pids: &[u32]) -> anyhow::Result<u64> {
    pids.iter().map(|pid| rss(*pid)).sum()
}

fn rss(pid: u32) -> anyhow::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Rss:")).context("no Rss in smaps_rollup")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").trim().parse()?;
    Ok(kib * 1024)
}

/// A process's children, its workers.
pub fn children(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|child| child.parse().ok()).collect()
}

/// Lets this process, and those that it starts, have as many open files as the system grants.
///
/// # Errors
/// If that is fewer than `wanted`.
pub fn open_files(wanted: u64) -> anyhow::Result<()> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit)?;
    let granted = limit.maximum.unwrap_or(u64::MAX);
    anyhow::ensure!(
        granted >= wanted,
        "{wanted} open files are needed and {granted} granted; raise the hard limit (ulimit -Hn)"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_that_is_spent_is_counted() {
        let before = cpu(std::process::id()).expect("this process");
        let begun = std::time::Instant::now();
        while begun.elapsed().as_millis() < 60 {
            std::hint::spin_loop();
        }
        let spent = cpu(std::process::id()).expect("this process") - before;
        assert!(spent > 1_000_000, "{spent} ns");
        assert!(rss_of(&[std::process::id()]).expect("this process") > 1 << 20);
    }
}
