//! S1 to S6.

use std::io::Read as _;
use std::net::TcpStream;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::crowd::{Ask, Crowd, distinct, stalled};
use crate::outcome::Outcome;
use crate::server::{Programs, Server, System};
use crate::stage::{PATIENCE, Plan, Stage};
use crate::usage;

/// Later than this is too late.
const TOO_LATE_MS: f64 = 100.0;

/// How a scenario is played.
#[derive(Debug, Clone)]
pub struct Setting<'a> {
    /// Where programs are.
    pub programs: &'a Programs,
    /// Which time it is, from 1 on.
    pub round: usize,
    /// How long is measured.
    pub time: Duration,
    /// Divides the numbers of viewers and runs.
    pub scale: usize,
}

impl Setting<'_> {
    fn scaled(&self, count: usize) -> usize {
        (count / self.scale).max(1)
    }
}

/// S1: one run, `viewers`, so many messages a second.
///
/// # Errors
/// If something does not come up.
pub fn one_run(
    setting: &Setting,
    scenario: &'static str,
    system: System,
    viewers: usize,
    rate: f64,
) -> anyhow::Result<Outcome> {
    let viewers = setting.scaled(viewers);
    let mut stage = Stage::set(&Plan::one_run(system, viewers), setting.programs)?;
    stage.measure(Outcome::new(scenario, system, setting.round, viewers, rate), setting.time)
}

/// S2: a thousand runs with a viewer each, five messages a second in each.
///
/// # Errors
/// If something does not come up.
pub fn many_runs(setting: &Setting, system: System) -> anyhow::Result<Outcome> {
    let runs = setting.scaled(1000);
    let rate = runs as f64 * 5.0;
    let mut stage = Stage::set(&Plan::many_runs(system, runs), setting.programs)?;
    stage.measure(Outcome::new("S2", system, setting.round, runs, rate), setting.time)
}

/// S3: many viewers to whom nothing is said.
///
/// # Errors
/// If something does not come up.
pub fn idle(
    setting: &Setting,
    scenario: &'static str,
    system: System,
    viewers: usize,
) -> anyhow::Result<Outcome> {
    let viewers = setting.scaled(viewers);
    let plan = Plan::one_run(system, 1);
    let stage = Stage::set(&plan, setting.programs)?;
    let pids = stage.server.pids();
    let (cpu, rss) = (usage::cpu_of(&pids)?, usage::rss_of(&pids)?);
    let begun = Instant::now();
    let mut crowd = Crowd::new(&stage.server, false)?;
    for _ in 0..viewers {
        crowd.join(&plan.ask(0))?;
    }
    crowd.wait_for_answers(PATIENCE)?;
    let took = begun.elapsed();
    std::thread::sleep(Duration::from_secs(1));
    let mut outcome = Outcome::new(scenario, system, setting.round, viewers, 0.0);
    let spent = (usage::cpu_of(&pids)? - cpu) as f64 / 1e9;
    outcome.connects_a_cpu_second = Some(viewers as f64 / spent);
    outcome.seconds = Some(took.as_secs_f64());
    outcome.bytes_a_viewer = Some(usage::rss_of(&pids)?.saturating_sub(rss) as f64 / viewers as f64);
    outcome.cut_off = crowd.seen().closed.load(Ordering::Relaxed);
    crowd.leave()?;
    Ok(outcome)
}

/// S4: more and more messages until they come late; the most deliveries a second before that.
///
/// # Errors
/// If something does not come up.
pub fn saturation(
    setting: &Setting,
    scenario: &'static str,
    plan: &Plan,
    from: f64,
) -> anyhow::Result<Outcome> {
    let each = plan.viewers as f64 / plan.runs as f64;
    let time = setting.time.min(Duration::from_secs(3));
    let mut best: Option<Outcome> = None;
    let mut rate = from / each;
    // Up until it is too much; then on from the last that was not, in smaller steps.
    let mut steps = [2.0, 1.3, 1.1].into_iter();
    let mut step = steps.next().unwrap_or(2.0);
    for attempt in 0..24 {
        let mut stage = Stage::set(plan, setting.programs)?;
        let outcome = Outcome::new(scenario, plan.system, setting.round, plan.viewers, rate);
        let outcome = stage.measure(outcome, time)?;
        let in_time = outcome.latency.is_some_and(|latency| latency.p99 <= TOO_LATE_MS);
        let offered = rate * each;
        // One message may be on its way at either end.
        let under_way = each / time.as_secs_f64();
        let keeps_up = outcome.deliveries_a_second.is_some_and(|seen| seen + under_way >= offered * 0.97);
        eprintln!("bench:         {offered:.0}/s asked; {outcome}");
        if in_time && keeps_up && outcome.lost == 0 {
            rate *= step;
            best = Some(outcome);
        } else if best.is_none() && attempt < 4 {
            rate /= 2.0;
        } else if let (Some(best), Some(smaller)) = (&best, steps.next()) {
            step = smaller;
            rate = best.rate * step;
        } else {
            best = best.or(Some(Outcome { deliveries_a_second: Some(0.0), ..outcome }));
            break;
        }
    }
    best.context("no rate was tried")
}

/// S5: the server is killed and started anew under the eyes of thousands, who all come back at once with
/// where they stand, while publishing goes on.
///
/// # Errors
/// If something does not come up, or somebody does not catch up.
pub fn storm(setting: &Setting) -> anyhow::Result<Outcome> {
    let viewers = setting.scaled(5000);
    let plan = Plan { follows_ids: true, ..Plan::one_run(System::Ours, viewers) };
    let Stage { redis, mut server, crowd, mut talker } = Stage::set(&plan, setting.programs)?;
    let rate = 50.0;
    talker.talk(rate, Duration::from_secs(2))?;
    // Some have seen more than others when they are cut off.
    talker.say(300)?;
    std::thread::sleep(Duration::from_millis(30));
    server.kill9();
    let (lost, repeated) =
        (crowd.seen().lost.load(Ordering::Relaxed), crowd.seen().repeated.load(Ordering::Relaxed));
    let stand = crowd.leave()?;
    talker.talk(rate, Duration::from_secs(1))?;
    let server = Server::start_at(System::Ours, setting.programs, redis.1, server.port)?;
    let reads = xranges(redis.1)?;
    let (begun, cpu) = (Instant::now(), usage::cpu_of(&server.pids())?);
    let mut back = Crowd::new(&server, true)?;
    for (number, seen) in stand.iter().enumerate() {
        back.join(&Ask { seen: Some(seen.clone()), ..plan.ask(number) })?;
    }
    talker.talk(rate, Duration::from_millis(500))?;
    // Who has seen it before it is waited for would not be counted.
    back.wait_for(talker.last(0) + 1);
    talker.say(1)?;
    back.wait_for_arrivals(PATIENCE)?;
    let mut outcome = Outcome::new("S5", System::Ours, setting.round, viewers, rate);
    outcome.seconds = Some(begun.elapsed().as_secs_f64());
    let count = back.seen().deliveries.load(Ordering::Relaxed);
    outcome.cpu_a_delivery = Some((usage::cpu_of(&server.pids())? - cpu) as f64 / 1e3 / count.max(1) as f64);
    outcome.reads = Some(xranges(redis.1)? - reads);
    outcome.ranges = Some(distinct(&stand));
    outcome.lost = lost + back.seen().lost.load(Ordering::Relaxed);
    outcome.repeated = repeated + back.seen().repeated.load(Ordering::Relaxed);
    outcome.cut_off = back.seen().closed.load(Ordering::Relaxed);
    outcome.refused = talker.refused();
    Ok(outcome)
}

/// S6: a thousand viewers; then the same with one who reads nothing and one who reads a byte a second.
/// The run says more than sockets hold, or nobody would notice.
///
/// # Errors
/// If something does not come up.
pub fn a_stalled_one(setting: &Setting, with: bool) -> anyhow::Result<Outcome> {
    let viewers = setting.scaled(1000);
    let plan = Plan::one_run(System::Ours, viewers - 1);
    let mut stage = Stage::set(&plan, setting.programs)?;
    let mut slow: Vec<TcpStream> = Vec::new();
    if with {
        slow.push(stalled(stage.server.port, &plan.ask(0))?);
        slow.push(stalled(stage.server.port, &plan.ask(0))?);
    }
    // So that their sockets are full before it counts.
    stage.crowd.wait_for(stage.talker.last(0) + 20_000);
    stage.talker.say(20_000)?;
    stage.crowd.wait_for_arrivals(PATIENCE)?;
    let (over, is_over) = mpsc::channel::<()>();
    let trickling = slow.pop().map(|mut socket| {
        std::thread::spawn(move || {
            let second = Duration::from_secs(1);
            while is_over.recv_timeout(second) == Err(RecvTimeoutError::Timeout)
                && matches!(socket.read(&mut [0; 1]), Ok(1))
            {}
        })
    });
    let scenario = if with { "S6 stalled" } else { "S6" };
    let outcome = Outcome::new(scenario, System::Ours, setting.round, viewers - 1, 50.0);
    let outcome = stage.measure(outcome, setting.time)?;
    drop((stage, slow, over));
    if let Some(trickling) = trickling {
        trickling.join().map_err(|_| anyhow::anyhow!("the slow viewer's thread has failed"))?;
    }
    Ok(outcome)
}

/// Range reads that Redis has answered.
fn xranges(port: u16) -> anyhow::Result<u64> {
    let mut command = Command::new("redis-cli");
    let output = command.args(["-p", &port.to_string(), "info", "commandstats"]).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let calls = text.lines().find_map(|line| line.strip_prefix("cmdstat_xrange:calls="));
    Ok(calls.and_then(|rest| rest.split(',').next()).map_or(Ok(0), str::parse)?)
}
