//! All scenarios, in rounds.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::ValueEnum;

use crate::outcome::Outcome;
use crate::report;
use crate::scenarios::{Setting, a_stalled_one, idle, many_runs, one_run, saturation, storm};
use crate::server::{Programs, System, lacks};
use crate::stage::Plan;
use crate::usage;

/// What is played.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "UPPER")]
pub enum Scenario {
    /// One run, 1,000 viewers, 50 messages a second; ours and the floor also with 100 and 10,000 viewers.
    S1,
    /// 1,000 runs with a viewer each, 5 messages a second in each.
    S2,
    /// 10,000 viewers to whom nothing is said: memory, connects.
    S3,
    /// How much until it comes late: in one run, and in 1,000.
    S4,
    /// 5,000 viewers come back at once after a kill -9.
    S5,
    /// One stalled viewer, and one who reads a byte a second, among 1,000.
    S6,
    /// What TLS costs the fan-out: 500 viewers, 20 messages a second; 2,000 viewers to whom nothing is said.
    S8,
}

/// What to play, and how.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Only these scenarios, separated by commas.
    #[arg(long, value_delimiter = ',', ignore_case = true)]
    scenario: Vec<Scenario>,
    /// Only these systems, separated by commas.
    #[arg(long, value_delimiter = ',')]
    systems: Vec<System>,
    /// How often each is played; medians are told.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds that count, of each.
    #[arg(long, default_value_t = 6.0)]
    seconds: f64,
    /// A tenth of the viewers and runs, one round, two seconds: to see that it works. Its figures are
    /// nobody's.
    #[arg(long)]
    quick: bool,
    /// Where the figures go; target/bench/ otherwise.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The fan-out to measure.
    #[arg(long, value_name = "PATH", default_value = "target/release/runcast-fanout")]
    fanout: PathBuf,
    /// The folder of the other servers.
    #[arg(long, value_name = "FOLDER", default_value = "bench/baseline")]
    baseline: PathBuf,
    /// A Python with what they need.
    #[arg(long, value_name = "PATH", default_value = "target/tools/bench-python/bin/python")]
    python: PathBuf,
}

/// Descriptors for 10,000 viewers on either end.
const OPEN_FILES: u64 = 12_000;

/// Plays, and reports.
///
/// # Errors
/// If the machine does not bear it, or a report cannot be written. A measurement that fails is told, and the
/// others go on.
pub fn run(options: &Options) -> anyhow::Result<()> {
    usage::open_files(OPEN_FILES)?;
    let absolute = std::path::absolute::<&PathBuf>;
    let programs = Programs {
        fanout: absolute(&options.fanout)?,
        baseline: absolute(&options.baseline)?,
        python: absolute(&options.python)?,
    };
    let mut systems: Vec<_> = System::value_variants()
        .iter()
        .copied()
        .filter(|system| options.systems.is_empty() || options.systems.contains(system))
        .collect();
    let mut missing = Vec::new();
    systems.retain(|system| match lacks(*system, &programs) {
        Some(why) => {
            eprintln!("bench: {system:?} is not here: {why}");
            missing.push(format!("{system:?}: {why}"));
            false
        }
        None => true,
    });
    let (rounds, scale) = if options.quick { (1, 10) } else { (options.rounds.max(1), 1) };
    let time = Duration::from_secs_f64(if options.quick { 2.0 } else { options.seconds });
    let begun = Instant::now();
    let mut outcomes = Vec::new();
    for scenario in Scenario::value_variants() {
        if !options.scenario.is_empty() && !options.scenario.contains(scenario) {
            continue;
        }
        // In turns, so that what the machine does besides hits all alike.
        for round in 1..=rounds {
            let setting = Setting { programs: &programs, round, time, scale };
            for play in plays(*scenario, &systems, &setting) {
                let what = play.what.clone();
                eprintln!("bench: {:>4} s  round {round} of {rounds}  {what}", begun.elapsed().as_secs());
                match (play.play)() {
                    Ok(outcome) => {
                        eprintln!("bench:         {outcome}");
                        outcomes.push(outcome);
                    }
                    Err(error) => {
                        eprintln!("bench: {what} failed: {error:#}");
                        missing.push(format!("{what}, round {round}: {error:#}"));
                    }
                }
            }
        }
    }
    report::report(&outcomes, &missing, options.quick, options.json.as_deref())
}

struct Play<'a> {
    what: String,
    play: Box<dyn FnOnce() -> anyhow::Result<Outcome> + 'a>,
}

fn plays<'a>(scenario: Scenario, systems: &[System], setting: &'a Setting) -> Vec<Play<'a>> {
    let mut plays = Vec::new();
    let mut add = |what: String, play: Box<dyn FnOnce() -> anyhow::Result<Outcome> + 'a>| {
        plays.push(Play { what, play });
    };
    let scaled = |count: usize| (count / setting.scale).max(1);
    for &system in systems.iter().filter(|system| scenario == Scenario::S8 || **system != System::OursTls) {
        let (ours, python) = (system == System::Ours, is_python(system));
        match scenario {
            Scenario::S1 => {
                // Python cannot do 50,000 a second at all.
                let rate = if python { 10.0 } else { 50.0 };
                add(
                    format!("S1 {system:?}, 1,000 viewers"),
                    Box::new(move || one_run(setting, "S1", system, 1000, rate)),
                );
                if ours || system == System::Floor {
                    for (scenario, viewers, rate) in
                        [("S1 100", 100, 4.0), ("S1 100 fast", 100, 400.0), ("S1 10000", 10_000, 4.0)]
                    {
                        add(
                            format!("S1 {system:?}, {viewers} viewers, {rate} messages/s"),
                            Box::new(move || one_run(setting, scenario, system, viewers, rate)),
                        );
                    }
                }
            }
            Scenario::S2 => add(format!("S2 {system:?}"), Box::new(move || many_runs(setting, system))),
            Scenario::S3 => {
                add(format!("S3 {system:?}"), Box::new(move || idle(setting, "S3", system, 10_000)));
            }
            Scenario::S4 => {
                let plan = Plan::one_run(system, scaled(500));
                let from = if python { 3000.0 } else { 30_000.0 };
                add(
                    format!("S4 {system:?}, one run"),
                    Box::new(move || saturation(setting, "S4", &plan, from)),
                );
                let plan = Plan::many_runs(system, scaled(1000));
                let from = if python { 1500.0 } else { 3000.0 };
                add(
                    format!("S4 {system:?}, 1,000 runs"),
                    Box::new(move || saturation(setting, "S4 1000", &plan, from)),
                );
                if ours {
                    let plan = Plan { publish_only: true, ..Plan::many_runs(system, scaled(1000)) };
                    add(
                        "S4 Ours, 1,000 runs, publish only".into(),
                        Box::new(move || saturation(setting, "S4 1000p", &plan, 10_000.0)),
                    );
                }
            }
            Scenario::S5 if ours => add("S5".into(), Box::new(move || storm(setting))),
            Scenario::S6 if ours => {
                add("S6 without".into(), Box::new(move || a_stalled_one(setting, false)));
                add("S6 with".into(), Box::new(move || a_stalled_one(setting, true)));
            }
            Scenario::S8 if system.is_ours() => {
                add(format!("S8 {system:?}"), Box::new(move || one_run(setting, "S8", system, 500, 20.0)));
                add(format!("S8 {system:?}, idle"), Box::new(move || idle(setting, "S8 idle", system, 2000)));
            }
            Scenario::S5 | Scenario::S6 | Scenario::S8 => {}
        }
    }
    plays
}

fn is_python(system: System) -> bool {
    matches!(system, System::Python | System::PythonShared)
}
