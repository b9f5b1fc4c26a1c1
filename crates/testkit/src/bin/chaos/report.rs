//! What happened, and whether it was right.

use std::time::{Duration, Instant};

use crate::agents::Written;
use crate::line;
use crate::nemesis::{Fault, Nemesis};
use crate::watchers::Seen;

/// Tells what happens as it happens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timeline {
    begun: Instant,
}

/// A fault, from when to when, and when another primary had taken over, if one did.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outage {
    /// What was done.
    pub(crate) fault: Fault,
    /// When it began.
    pub(crate) begun: Instant,
    /// When all was whole again.
    pub(crate) ended: Instant,
    /// How long the new primary took.
    pub(crate) promotion: Option<Duration>,
}

impl Timeline {
    /// Begins now.
    pub(crate) fn new() -> Self {
        Self { begun: Instant::now() }
    }

    /// Prints a line with its time.
    pub(crate) fn tell(&self, what: &str) {
        println!("{:8.2} s  {what}", self.begun.elapsed().as_secs_f64());
    }
}

/// Prints the report; the number of failures.
pub(crate) fn print(
    timeline: &Timeline,
    nemesis: &Nemesis,
    written: &[Written],
    seen: &[Result<Seen, String>],
) -> usize {
    timeline.tell("checked:");
    let accepted: usize = written.iter().map(|written| written.accepted.len()).sum();
    let unknown: usize = written.iter().map(|written| written.unknown.len()).sum();
    println!("accepted {accepted} lines, {unknown} of unknown fate");
    let mut latencies: Vec<_> =
        written.iter().flat_map(|written| written.latencies.iter().copied()).collect();
    latencies.sort_unstable();
    if let Some(max) = latencies.last() {
        let at = |share: usize| latencies[(latencies.len() - 1) * share / 100];
        println!("agents' requests: p50 {:.1?}, p99 {:.1?}, max {max:.1?}", at(50), at(99));
    }
    let mut failures = 0;
    for (number, viewer) in seen.iter().enumerate() {
        match viewer {
            Err(reason) => {
                println!("FAILED {reason}");
                failures += 1;
            }
            Ok(viewer) => failures += check(number, viewer, written),
        }
    }
    if let Some(Ok(steady)) = seen.first() {
        stalls(nemesis, steady);
    }
    if failures > 0 {
        for log in nemesis.logs() {
            println!("--- sidecar ---\n{log}");
        }
    }
    failures
}

fn check(number: usize, viewer: &Seen, written: &[Written]) -> usize {
    let (mut lost, mut strange, mut repeated) = (0, 0, 0);
    for (agent, written) in written.iter().enumerate() {
        let text = viewer.history.text(&agent.to_string());
        let (mut last, mut seen) = (0, std::collections::BTreeSet::new());
        for line in text.lines() {
            match line::read(agent, line) {
                Some(number)
                    if number > last
                        && (written.accepted.contains(&number) || written.unknown.contains(&number)) =>
                {
                    last = number;
                    seen.insert(number);
                }
                Some(_) => repeated += 1,
                None => strange += 1,
            }
        }
        lost += written.accepted.difference(&seen).count();
    }
    let gaps = viewer.gaps();
    println!(
        "viewer {number}: {} messages over {} connections; lost {lost}, repeated or reordered {repeated}, broken {strange}, gaps {gaps:?}",
        viewer.history.messages, viewer.connections
    );
    // Nothing here trims or evicts: no gap has a reason.
    lost + strange + repeated + gaps.len()
}

fn stalls(nemesis: &Nemesis, steady: &Seen) {
    let mut faults: Vec<(Fault, Vec<Stall>)> = Vec::new();
    for outage in &nemesis.outages {
        let stall = steady.stall(outage.begun, outage.ended + Duration::from_secs(2));
        match faults.iter_mut().find(|(fault, _)| *fault == outage.fault) {
            Some((_, stalls)) => stalls.push((stall, outage.promotion)),
            None => faults.push((outage.fault, vec![(stall, outage.promotion)])),
        }
    }
    for (fault, mut stalls) in faults {
        stalls.sort_unstable();
        let (median, max) = (stalls[stalls.len() / 2].0, stalls[stalls.len() - 1].0);
        let mut promotions: Vec<_> = stalls.iter().filter_map(|(_, promotion)| *promotion).collect();
        promotions.sort_unstable();
        let promotion = promotions.get(promotions.len() / 2).map(|median| {
            format!("; promotion median {median:.2?}, max {:.2?}", promotions[promotions.len() - 1])
        });
        println!(
            "{fault:?} × {}: viewers stood still median {median:.2?}, max {max:.2?}{}",
            stalls.len(),
            promotion.unwrap_or_default()
        );
    }
}

/// How long viewers stood still, and how long the new primary took.
type Stall = (Duration, Option<Duration>);
