//! What happened, and whether it was right.

use std::time::{Duration, Instant};

use crate::agents::Written;
use crate::kept::Kept;
use crate::line;
use crate::nemesis::{Fault, Nemesis};
use crate::silences::Silences;
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

    /// Seconds from the beginning to an instant.
    pub(crate) fn at(&self, instant: Instant) -> f64 {
        instant.duration_since(self.begun).as_secs_f64()
    }

    /// Prints a line with its time.
    pub(crate) fn tell(&self, what: &str) {
        println!("{:8.2} s  {what}", self.begun.elapsed().as_secs_f64());
    }
}

/// What came of it.
pub(crate) struct Report<'a> {
    pub(crate) timeline: Timeline,
    pub(crate) nemesis: &'a Nemesis,
    pub(crate) written: Vec<Written>,
    /// What the viewers saw, the steady one first.
    pub(crate) seen: Vec<Result<Seen, String>>,
    /// When nothing was appended.
    pub(crate) writes: Silences,
    pub(crate) kept: Kept,
    /// What is wrong with archive and read model.
    pub(crate) problems: Vec<String>,
}

/// How long things stood still because of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Stall {
    deliveries: Duration,
    writes: Duration,
    promotion: Option<Duration>,
}

impl Report<'_> {
    /// Prints it; the number of failures.
    pub(crate) fn print(&self) -> usize {
        self.timeline.tell("checked:");
        let accepted: usize = self.written.iter().map(|written| written.accepted.len()).sum();
        let unknown: usize = self.written.iter().map(|written| written.unknown.len()).sum();
        println!("accepted {accepted} lines, {unknown} of unknown fate");
        let latencies = self.written.iter().flat_map(|written| written.latencies.iter().copied());
        let mut latencies: Vec<_> = latencies.collect();
        latencies.sort_unstable();
        if let Some(max) = latencies.last() {
            let at = |share: usize| latencies[(latencies.len() - 1) * share / 100];
            println!("agents' requests: p50 {:.1?}, p99 {:.1?}, max {max:.1?}", at(50), at(99));
        }
        let mut failures = 0;
        for (number, viewer) in self.seen.iter().enumerate() {
            match viewer {
                Err(reason) => {
                    println!("FAILED {reason}");
                    failures += 1;
                }
                Ok(viewer) => failures += self.check(number, viewer),
            }
        }
        for problem in &self.problems {
            println!("FAILED {problem}");
            failures += 1;
        }
        if let Some(Ok(steady)) = self.seen.first() {
            self.print_stalls(steady);
        }
        if failures > 0 {
            for log in self.nemesis.logs() {
                println!("--- sidecar ---\n{log}");
            }
        }
        failures
    }

    fn check(&self, number: usize, viewer: &Seen) -> usize {
        let (mut lost, mut excused, mut strange, mut repeated) = (0, 0, 0, 0);
        for (agent, written) in self.written.iter().enumerate() {
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
            // One message a line: what gaps were told of may be missing, and no more.
            let missing = written.accepted.difference(&seen).count();
            let told = viewer.missed(&format!("output/{agent}").parse().expect("a lane"));
            excused += missing.min(told);
            lost += missing.saturating_sub(told);
        }
        let gaps = &viewer.history.gaps;
        let unjustified: Vec<_> = gaps.iter().filter(|gap| !self.kept.lacks(&gap.lane, gap.last)).collect();
        println!(
            "viewer {number}: {} messages over {} connections; lost {lost}, repeated or reordered {repeated}, broken {strange}; {} gaps, {} of them unjustified, {excused} lines in them",
            viewer.history.messages,
            viewer.connections,
            gaps.len(),
            unjustified.len()
        );
        for gap in &unjustified {
            println!("  Redis still has {} {}–{} ({:?})", gap.lane, gap.first, gap.last, gap.reason);
        }
        lost + strange + repeated + unjustified.len()
    }

    /// How long each fault had things stand still, and then by kind.
    fn print_stalls(&self, steady: &Seen) {
        let mut kinds: Vec<(Fault, Vec<Stall>)> = Vec::new();
        println!("outages: when, what, how long writes to Redis and deliveries stood still");
        for outage in &self.nemesis.outages {
            let (from, to) = (outage.begun, outage.ended + Duration::from_secs(2));
            let (writes, deliveries) = (self.writes.longest(from, to), steady.silences.longest(from, to));
            let promotion = outage.promotion;
            let promoted = promotion.map(|took| format!(", promotion {took:.2?}")).unwrap_or_default();
            let begun = self.timeline.at(outage.begun);
            println!("{begun:8.2} s  {:?}: {writes:.2?}, {deliveries:.2?}{promoted}", outage.fault);
            let stall = Stall { deliveries, writes, promotion };
            match kinds.iter_mut().find(|(fault, _)| *fault == outage.fault) {
                Some((_, stalls)) => stalls.push(stall),
                None => kinds.push((outage.fault, vec![stall])),
            }
        }
        for (fault, stalls) in kinds {
            let of = |what: fn(&Stall) -> Option<Duration>| summary(stalls.iter().filter_map(what).collect());
            let promotions = of(|stall| stall.promotion);
            println!(
                "{fault:?} × {}: writes stood still {}, deliveries {}{}",
                stalls.len(),
                of(|stall| Some(stall.writes)).unwrap_or_default(),
                of(|stall| Some(stall.deliveries)).unwrap_or_default(),
                promotions.map(|promotions| format!(", promotion {promotions}")).unwrap_or_default(),
            );
        }
    }
}

fn summary(mut times: Vec<Duration>) -> Option<String> {
    times.sort_unstable();
    Some(format!("median {:.2?}, max {:.2?}", times.get(times.len() / 2)?, times.last()?))
}
