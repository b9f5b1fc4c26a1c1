//! A stage for one measurement: a Redis, a server, a crowd of viewers and a talker.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::crowd::{Ask, Crowd};
use crate::outcome::{Latency, Outcome};
use crate::server::{Process, Programs, Server, System, redis};
use crate::talker::{Talker, Wire};
use crate::usage;

/// How long viewers may take to be answered, all of them.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What is on a stage.
#[derive(Debug)]
pub struct Stage {
    /// Redis, and the port it listens on.
    pub redis: (Process, u16),
    /// The server.
    pub server: Server,
    /// Its viewers.
    pub crowd: Crowd,
    /// Who publishes.
    pub talker: Talker,
}

/// What a stage is set up with.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Whose turn it is.
    pub system: System,
    /// How many runs.
    pub runs: usize,
    /// How many viewers, spread over the runs.
    pub viewers: usize,
    /// Whether messages go to viewers only, and not into streams.
    pub publish_only: bool,
    /// Whether viewers are to come back.
    pub follows_ids: bool,
}

impl Plan {
    /// One run.
    pub fn one_run(system: System, viewers: usize) -> Self {
        Self { system, runs: 1, viewers, publish_only: false, follows_ids: false }
    }

    /// A viewer for each run.
    pub fn many_runs(system: System, runs: usize) -> Self {
        Self { system, runs, viewers: runs, publish_only: false, follows_ids: false }
    }

    /// The runs' names.
    pub fn names(&self) -> Vec<String> {
        (0..self.runs).map(|number| format!("run-{number}")).collect()
    }

    /// What viewer `number` asks for.
    pub fn ask(&self, number: usize) -> Ask {
        let query = if self.system.is_ours() { "channels=output" } else { "" };
        Ask { run: format!("run-{}", number % self.runs), query: query.into(), seen: None }
    }
}

impl Stage {
    /// Sets everything up, with the viewers connected and answered, and one message of each run told.
    ///
    /// # Errors
    /// If something does not come up.
    pub fn set(plan: &Plan, programs: &Programs) -> anyhow::Result<Self> {
        let redis = redis()?;
        let server = Server::start(plan.system, programs, redis.1)?;
        let wire = match server.wire {
            Wire::Append if plan.publish_only => Wire::Publish,
            wire => wire,
        };
        let port = if wire == Wire::Post { server.publish_port } else { redis.1 };
        let mut talker = Talker::new(wire, port, plan.names())?;
        let mut crowd = Crowd::new(&server, plan.follows_ids)?;
        for number in 0..plan.viewers {
            crowd.join(&plan.ask(number))?;
        }
        crowd.wait_for_answers(PATIENCE)?;
        // Who answers before it has subscribed loses what is said meanwhile: it is given time for that.
        let begun = Instant::now();
        loop {
            crowd.wait_for(talker.last(0) + 1);
            talker.say(plan.runs as u64)?;
            match crowd.wait_for_arrivals(PATIENCE / 20) {
                Err(error) if begun.elapsed() > PATIENCE => return Err(error),
                Err(_) => {}
                Ok(()) => return Ok(Self { redis, server, crowd, talker }),
            }
        }
    }

    /// Publishes at a rate, a while before it counts and then for `time`, and measures.
    ///
    /// # Errors
    /// If a process is gone.
    pub fn measure(&mut self, outcome: Outcome, time: Duration) -> anyhow::Result<Outcome> {
        self.talker.talk(outcome.rate, (time / 4).min(Duration::from_secs(2)))?;
        self.measure_warm(outcome, time)
    }

    /// The same at once.
    ///
    /// # Errors
    /// As [`Stage::measure`].
    pub fn measure_warm(&mut self, mut outcome: Outcome, time: Duration) -> anyhow::Result<Outcome> {
        let (pids, redis, own) = (self.server.pids(), self.redis.0.pid(), std::process::id());
        let delivered = || self.crowd.seen().deliveries.load(Ordering::Relaxed);
        let (lost, repeated) = (self.lost(), self.repeated());
        self.crowd.begin_timing();
        let (begun, before) = (Instant::now(), delivered());
        let (server, of_redis, generator) = (usage::cpu_of(&pids)?, usage::cpu(redis)?, usage::cpu(own)?);
        self.talker.talk(outcome.rate, time)?;
        // What is under way counts, with what it costs; not more, for then the server has fallen behind.
        std::thread::sleep(Duration::from_millis(50));
        let (count, took) = (delivered() - before, begun.elapsed());
        let spent = |now: u64, before: u64| now.saturating_sub(before) as f64 / 1e3;
        let said = outcome.rate * time.as_secs_f64();
        outcome.cpu_a_delivery = Some(spent(usage::cpu_of(&pids)?, server) / count.max(1) as f64);
        outcome.redis_cpu_a_message = Some(spent(usage::cpu(redis)?, of_redis) / said.max(1.0));
        outcome.generator_cores = Some(spent(usage::cpu(own)?, generator) / took.as_micros() as f64);
        outcome.deliveries_a_second = Some(count as f64 / time.as_secs_f64());
        outcome.latency = self.crowd.end_timing().filter(|times| !times.is_empty()).as_ref().map(Latency::of);
        outcome.lost = self.lost() - lost;
        outcome.repeated = self.repeated() - repeated;
        outcome.cut_off = self.crowd.seen().closed.load(Ordering::Relaxed);
        outcome.refused = self.talker.refused();
        Ok(outcome)
    }

    fn lost(&self) -> u64 {
        self.crowd.seen().lost.load(Ordering::Relaxed)
    }

    fn repeated(&self) -> u64 {
        self.crowd.seen().repeated.load(Ordering::Relaxed)
    }
}
