//! The whole path in one process, without sockets or clocks: the sidecar's real queue, a model of Redis
//! with a replica that lags and failovers that take the tail, pub/sub that loses, repeats and reorders,
//! the fan-out's real tracker, reader and ring, and viewers that come and go with their cursor.
//!
//! Under thousands of random schedules every viewer sees each lane once and in order, is told a gap only
//! where something was given up or trimmed, and in the end has seen all that was accepted. A failing
//! schedule names its seed: run it alone with `RUNCAST_SEED=<seed>`.

#![allow(clippy::unwrap_used, unreachable_pub, missing_docs, reason = "this is test code")]

mod fanout;
mod pages;
mod redis;
mod sidecar;
mod truth;
mod viewer;

use std::collections::BTreeMap;
use std::panic::catch_unwind;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use runcast_bus::EntryId;
use runcast_protocol::{Batch, Channel, Lane};

use crate::fanout::Fanout;
use crate::pages::Pages;
use crate::redis::Redis;
use crate::sidecar::Sidecar;
use crate::truth::{Mistake, Truth};
use crate::viewer::Viewer;

const SCHEDULES: u64 = 2_000;
/// As many as find each mistake, with room to spare.
const SCHEDULES_WITH_A_MISTAKE: u64 = 500;
const STEPS: usize = 400;

fn schedule(seed: u64, mistake: Option<Mistake>) {
    let rng = &mut SmallRng::seed_from_u64(seed);
    let mut truth = Truth::default();
    // Every other schedule trims its streams.
    let mut redis = Redis::new(2, if seed.is_multiple_of(2) { usize::MAX } else { 12 }, mistake);
    let lanes = ["output/a", "logs/a", "status/a", "status/b"].map(|lane| lane.parse().unwrap());
    let mut sidecars = lanes.map(|lane| Sidecar::new(lane, mistake));
    let mut fanouts = [Fanout::start(&redis, mistake), Fanout::start(&redis, mistake)];
    let mut viewers = [0, 1, 2, 3].map(Viewer::new);
    let mut pages = [Pages::default(), Pages::default()];
    for _ in 0..STEPS {
        let (one, other) = (rng.random_range(0..4), rng.random_range(0..2));
        match rng.random_range(0..20) {
            0..=7 => sidecars[one].step(&mut redis, &mut truth, rng),
            8..=11 if !redis.under_way[other].is_empty() => {
                let last = redis.under_way[other].len() - 1;
                let place = if rng.random_bool(0.8) { 0 } else { rng.random_range(0..=last) };
                let payload = redis.under_way[other].remove(place);
                fanouts[other].deliver(payload, &redis);
            }
            12 => fanouts[other].check(&redis),
            13 => redis.replicate(rng.random_range(0..4)),
            14 if rng.random_bool(0.1) => redis.fail_over(rng),
            15 if rng.random_bool(0.1) => {
                // kill -9 of a fan-out, and its restart.
                fanouts[other] = Fanout::start(&redis, mistake);
                pages[other].clear();
                redis.under_way[other].clear();
                let orphans = viewers.iter_mut().filter(|viewer| viewer.fanout == other);
                orphans.for_each(|viewer| viewer.leave(rng.random_range(0..2)));
            }
            16 => viewers[one].leave(other),
            _ => viewers[one].step(&fanouts, &mut pages, &redis, &truth, rng),
        }
    }

    let mut accepted = BTreeMap::new();
    for sidecar in &mut sidecars {
        let taken = sidecar.settle(&mut redis, &mut truth, rng);
        let stands = redis.stands(&sidecar.lane).get();
        let batches = redis.batches(&sidecar.lane);
        assert!(batches.windows(2).all(|pair| pair[0].1 < pair[1].0), "{}: {batches:?}", sidecar.lane);
        if sidecar.lane.channel == Channel::Logs {
            check_markers(&redis, &sidecar.lane);
        }
        // A hole at the end is declared by the next message only.
        if stands < taken {
            truth.may_miss(&sidecar.lane, stands + 1..=taken);
        }
        accepted.insert(sidecar.lane.clone(), stands);
    }
    for fanout in &mut fanouts {
        fanout.check(&redis);
    }
    for viewer in &mut viewers {
        for _ in 0..10_000 {
            if viewer.has_seen(&accepted, &fanouts) {
                break;
            }
            viewer.step(&fanouts, &mut pages, &redis, &truth, rng);
        }
        assert!(viewer.has_seen(&accepted, &fanouts), "not all was seen");
    }
}

/// Where log records are missing, whoever dropped them and was killed then, a marker follows.
fn check_markers(redis: &Redis, lane: &Lane) {
    let page = redis.read(lane, (EntryId::default(), usize::MAX));
    let batches: Vec<_> = page.batches.into_iter().map(|payload| Batch::parse(payload).unwrap()).collect();
    for pair in batches.windows(2).filter(|pair| pair[0].last().next() < pair[1].first()) {
        let line = std::str::from_utf8(&pair[1].entries[0].line).unwrap();
        assert!(line.contains(r#""content":"gap""#), "a hole without a marker before {line}");
    }
}

#[test]
fn every_viewer_sees_all_that_was_accepted_once_and_in_order() {
    let seeds = match std::env::var("RUNCAST_SEED") {
        Ok(seed) => seed.parse().map(|seed| seed..seed + 1).expect("RUNCAST_SEED is a number"),
        Err(_) => 0..SCHEDULES,
    };
    for seed in seeds {
        if let Err(failure) = catch_unwind(|| schedule(seed, None)) {
            eprintln!("failing schedule: RUNCAST_SEED={seed}");
            std::panic::resume_unwind(failure);
        }
    }
}

#[test]
fn each_of_the_mistakes_is_found() {
    for mistake in Mistake::ALL {
        let found = (0..SCHEDULES_WITH_A_MISTAKE)
            .find(|&seed| catch_unwind(|| schedule(seed, Some(mistake))).is_err());
        println!("{mistake:?}: found by schedule {found:?}");
        assert!(found.is_some(), "{mistake:?} passes");
    }
}
