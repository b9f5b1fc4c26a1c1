//! What was measured, as a table for people and as JSON.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Serialize;

use crate::outcome::{Outcome, median};
use crate::server::System;

/// The machine, as far as figures depend on it.
#[derive(Debug, Serialize)]
struct Machine {
    cores: usize,
    cpu: String,
    memory_gib: u64,
    kernel: String,
    redis: String,
    commit: String,
    date: String,
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    machine: &'a Machine,
    outcomes: &'a [Outcome],
    aims: &'a [Aim],
    missing: &'a [String],
}

/// What is to be reached, and what was seen.
#[derive(Debug, Clone, Serialize)]
struct Aim {
    what: &'static str,
    asked: String,
    /// The median of the rounds, each with its own neighbours.
    seen: Option<f64>,
    is_met: Option<bool>,
}

/// Prints, and writes the JSON file.
///
/// # Errors
/// If the file cannot be written.
pub fn report(
    outcomes: &[Outcome],
    missing: &[String],
    quick: bool,
    file: Option<&Path>,
) -> anyhow::Result<()> {
    let (machine, aims) = (machine(), aims(outcomes));
    println!(
        "{} cores, {}, {} GiB, Linux {}, Redis {}, {}",
        machine.cores, machine.cpu, machine.memory_gib, machine.kernel, machine.redis, machine.commit
    );
    if quick {
        println!("--quick: a tenth of everything, once. These figures say that it works, not how well.");
    }
    println!();
    print_outcomes(outcomes);
    println!();
    print_aims(&aims);
    for missing in missing {
        println!("not measured: {missing}");
    }
    let file = file.map_or_else(
        || PathBuf::from(format!("target/bench/{}.json", machine.date.replace(':', ""))),
        Path::to_path_buf,
    );
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    let report = Report { machine: &machine, outcomes, aims: &aims, missing };
    fs::write(&file, serde_json::to_vec_pretty(&report)?)?;
    println!("\nall figures: {}", file.display());
    Ok(())
}

fn print_outcomes(outcomes: &[Outcome]) {
    println!(
        "{:<11} {:<13} {:>7} {:>10} {:>9} {:>8} {:>8} {:>8} {:>8} {:>7} {:>5}  lost/repeated/cut off/refused",
        "scenario",
        "system",
        "viewers",
        "deliver/s",
        "µs CPU",
        "p50 ms",
        "p99 ms",
        "p99.9",
        "B/viewer",
        "connect",
        "gen."
    );
    let kinds: BTreeSet<_> = outcomes.iter().map(|outcome| (outcome.scenario, outcome.system)).collect();
    for (scenario, system) in kinds {
        let same: Vec<_> = of(outcomes, scenario, system).collect();
        let Some(first) = same.first() else { continue };
        let show = |of: &dyn Fn(&Outcome) -> Option<f64>, digits: usize| {
            median(same.iter().filter_map(|outcome| of(outcome)).collect())
                .map_or_else(|| "–".to_owned(), |value| format!("{value:.digits$}"))
        };
        let sum = |of: &dyn Fn(&Outcome) -> u64| same.iter().map(|outcome| of(outcome)).sum::<u64>();
        println!(
            "{scenario:<11} {:<13} {:>7} {:>10} {:>9} {:>8} {:>8} {:>8} {:>8} {:>7} {:>5}  {}/{}/{}/{}",
            format!("{system:?}"),
            first.viewers,
            show(&|outcome| outcome.deliveries_a_second, 0),
            show(&|outcome| outcome.cpu_a_delivery, 2),
            show(&|outcome| outcome.latency.map(|latency| latency.p50), 2),
            show(&|outcome| outcome.latency.map(|latency| latency.p99), 2),
            show(&|outcome| outcome.latency.map(|latency| latency.p999), 2),
            show(&|outcome| outcome.bytes_a_viewer, 0),
            show(&|outcome| outcome.connects_a_cpu_second, 0),
            show(&|outcome| outcome.generator_cores, 2),
            sum(&|outcome| outcome.lost),
            sum(&|outcome| outcome.repeated),
            sum(&|outcome| outcome.cut_off),
            sum(&|outcome| outcome.refused),
        );
        if scenario == "S5" {
            let (seconds, reads) = (
                show(&|outcome| outcome.seconds, 2),
                show(&|outcome| outcome.reads.map(|reads| reads as f64), 0),
            );
            let ranges = show(&|outcome| outcome.ranges.map(|ranges| ranges as f64), 0);
            println!(
                "{:11} all are back after {seconds} s, with {reads} range reads for {ranges} cursors",
                ""
            );
        }
    }
    println!(
        "\nmedians of the rounds; µs CPU of the server for each delivery; gen.: cores that the load took"
    );
}

fn print_aims(aims: &[Aim]) {
    for Aim { what, asked, seen, is_met } in aims {
        let seen = seen.map_or_else(|| "not measured".into(), |seen| format!("{seen:.2}"));
        let verdict = match is_met {
            Some(true) => "met",
            Some(false) => "NOT MET",
            None => "–",
        };
        println!("{what:<66} {asked:>10}  {seen:>12}  {verdict}");
    }
}

fn of<'a>(outcomes: &'a [Outcome], scenario: &'a str, system: System) -> impl Iterator<Item = &'a Outcome> {
    outcomes.iter().filter(move |outcome| outcome.scenario == scenario && outcome.system == system)
}

/// The median of the rounds' ratios.
fn ratio(
    outcomes: &[Outcome],
    upper: (&'static str, System),
    lower: (&'static str, System),
    value: impl Fn(&Outcome) -> Option<f64>,
) -> Option<f64> {
    let pairs = of(outcomes, upper.0, upper.1).filter_map(|above| {
        let below = of(outcomes, lower.0, lower.1).find(|below| below.round == above.round)?;
        Some(value(above)? / value(below)?).filter(|ratio| ratio.is_finite())
    });
    median(pairs.collect())
}

fn aims(outcomes: &[Outcome]) -> Vec<Aim> {
    use System::{Floor, Nchan, Ours, Python};
    let cpu = |outcome: &Outcome| outcome.cpu_a_delivery;
    let many = |outcome: &Outcome| outcome.deliveries_a_second;
    let p99 = |outcome: &Outcome| outcome.latency.map(|latency| latency.p99);
    let single = |scenario, of_one: &dyn Fn(&Outcome) -> Option<f64>| {
        median(of(outcomes, scenario, Ours).filter_map(of_one).collect())
    };
    let at_most = |what, most: f64, seen: Option<f64>| Aim {
        what,
        asked: format!("≤ {most}"),
        seen,
        is_met: seen.map(|seen| seen <= most),
    };
    let at_least = |what, least: f64, seen: Option<f64>| Aim {
        what,
        asked: format!("≥ {least}"),
        seen,
        is_met: seen.map(|seen| seen >= least),
    };
    let wrong = |outcome: &Outcome| Some((outcome.lost + outcome.repeated) as f64);
    vec![
        at_most(
            "S1 CPU a delivery, ours to the floor",
            1.3,
            ratio(outcomes, ("S1", Ours), ("S1", Floor), cpu),
        ),
        at_most("S1 CPU a delivery, ours to nchan", 0.85, ratio(outcomes, ("S1", Ours), ("S1", Nchan), cpu)),
        at_most(
            "S2 CPU a delivery, ours to the floor",
            1.5,
            ratio(outcomes, ("S2", Ours), ("S2", Floor), cpu),
        ),
        at_most("S2 CPU a delivery, ours to nchan", 0.5, ratio(outcomes, ("S2", Ours), ("S2", Nchan), cpu)),
        at_least(
            "S4 deliveries a second, ours to the floor",
            1.0,
            ratio(outcomes, ("S4", Ours), ("S4", Floor), many),
        ),
        at_least(
            "S4 deliveries a second, ours to Python",
            10.0,
            ratio(outcomes, ("S4", Ours), ("S4", Python), many),
        ),
        at_least(
            "S4 over 1,000 runs, ours to nchan",
            5.0,
            ratio(outcomes, ("S4 1000", Ours), ("S4 1000", Nchan), many),
        ),
        at_least(
            "S4 over 1,000 runs, ours without streams to nchan",
            5.0,
            ratio(outcomes, ("S4 1000p", Ours), ("S4 1000", Nchan), many),
        ),
        at_most("S3 bytes for each idle viewer", 6144.0, single("S3", &|outcome| outcome.bytes_a_viewer)),
        at_least(
            "S3 connects for each CPU second",
            10_000.0,
            single("S3", &|outcome| outcome.connects_a_cpu_second),
        ),
        at_most("S5 messages lost or repeated", 0.0, single("S5", &wrong)),
        at_most(
            "S6 p99 with a stalled viewer to p99 without",
            1.1,
            ratio(outcomes, ("S6 stalled", Ours), ("S6", Ours), p99),
        ),
        at_most(
            "S1 CPU a delivery, 10,000 viewers to 100, 4 messages/s",
            1.2,
            ratio(outcomes, ("S1 10000", Ours), ("S1 100", Ours), cpu),
        ),
        at_most(
            "S1 CPU a delivery, 10,000 viewers to 100 with as many deliveries",
            1.2,
            ratio(outcomes, ("S1 10000", Ours), ("S1 100 fast", Ours), cpu),
        ),
    ]
}

fn machine() -> Machine {
    let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
    let field = |text: String, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).map(str::to_owned);
        line.and_then(|line| Some(line.split_once(':')?.1.trim().to_owned()))
            .unwrap_or_else(|| "unknown".into())
    };
    let said = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output();
        output.map_or_else(
            |_| "unknown".into(),
            |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        )
    };
    let memory = field(read("/proc/meminfo"), "MemTotal");
    let redis = said("redis-server", &["--version"]);
    Machine {
        cores: std::thread::available_parallelism().map_or(0, usize::from),
        cpu: field(read("/proc/cpuinfo"), "model name"),
        memory_gib: memory.trim_end_matches(" kB").parse::<u64>().unwrap_or(0).div_ceil(1 << 20),
        kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        redis: redis.split(' ').find_map(|word| word.strip_prefix("v=")).unwrap_or("unknown").to_owned(),
        commit: said("git", &["describe", "--always", "--dirty"]),
        date: jiff::Timestamp::now()
            .round(jiff::Unit::Second)
            .map_or_else(|_| String::new(), |now| now.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_made_within_a_round() {
        let one = |system, round, cpu| Outcome {
            cpu_a_delivery: Some(cpu),
            ..Outcome::new("S1", system, round, 1, 1.0)
        };
        let outcomes = [
            one(System::Ours, 1, 10.0),
            one(System::Floor, 1, 10.0),
            // The machine was slow in the second.
            one(System::Ours, 2, 44.0),
            one(System::Floor, 2, 40.0),
            one(System::Ours, 3, 12.0),
            one(System::Floor, 3, 10.0),
        ];
        let aims = aims(&outcomes);
        assert_eq!((aims[0].seen, aims[0].is_met), (Some(1.1), Some(true)));
        assert_eq!((aims[1].seen, aims[1].is_met), (None, None));
    }
}
