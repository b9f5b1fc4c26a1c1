//! The circuit breaker before Redis: while it is open, nobody asks. Pure: time comes from outside, as
//! the time since some beginning.

use std::time::Duration;

/// When the breaker opens, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerLimits {
    /// Failures one after the other until it opens.
    pub failures: u32,
    /// How long it stays open at first; twice as long after each attempt that fails.
    pub open_min: Duration,
    /// How long it stays open at most.
    pub open_max: Duration,
}

/// What the breaker does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// Lets everyone through.
    Closed,
    /// Lets nobody through for now.
    Open,
    /// One attempt is on its way, or may be made, to see whether Redis is back.
    HalfOpen,
}

/// What somebody who wants to ask Redis is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passage {
    /// Go.
    Free,
    /// Go, alone: what becomes of this attempt decides for all.
    Probe,
    /// Ask again after so long.
    Wait(Duration),
    /// Somebody's attempt is on its way: ask again when it has come back.
    Behind,
}

/// Closed, open, half-open.
///
/// Invariants: open lets nobody through, half-open one at a time; a success closes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breaker {
    limits: BreakerLimits,
    failures: u32,
    /// How often it opened since it was last closed.
    rounds: u32,
    open_until: Option<Duration>,
    probing: bool,
}

impl Breaker {
    /// A closed one.
    pub fn new(limits: BreakerLimits) -> Self {
        Self { limits, failures: 0, rounds: 0, open_until: None, probing: false }
    }

    /// What it does.
    pub fn state(&self, now: Duration) -> BreakerState {
        match self.open_until {
            None => BreakerState::Closed,
            Some(until) if !self.probing && now < until => BreakerState::Open,
            Some(_) => BreakerState::HalfOpen,
        }
    }

    /// Somebody wants to ask Redis.
    pub fn pass(&mut self, now: Duration) -> Passage {
        match self.open_until {
            None => Passage::Free,
            Some(_) if self.probing => Passage::Behind,
            Some(until) if now < until => Passage::Wait(until - now),
            Some(_) => {
                self.probing = true;
                Passage::Probe
            }
        }
    }

    /// An attempt succeeded, whichever.
    pub fn succeeded(&mut self) {
        *self = Self::new(self.limits);
    }

    /// An attempt failed; `jitter` from 0 to 1 scatters how long it stays open, from half of it on.
    pub fn failed(&mut self, was_probe: bool, now: Duration, jitter: f64) {
        self.failures = self.failures.saturating_add(1);
        if was_probe && self.probing {
            self.probing = false;
        } else if self.open_until.is_some() || self.failures < self.limits.failures {
            // What was on its way when it opened says nothing new.
            return;
        }
        let open = self.limits.open_min.saturating_mul(1 << self.rounds.min(20)).min(self.limits.open_max);
        self.rounds = self.rounds.saturating_add(1);
        self.open_until = Some(now + open.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0));
    }

    /// The probe was given up without an answer; the next one may try.
    pub fn abandoned(&mut self) {
        self.probing = false;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: BreakerLimits = BreakerLimits {
        failures: 3,
        open_min: Duration::from_millis(100),
        open_max: Duration::from_millis(350),
    };

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn it_opens_after_failures_in_a_row_only() {
        let mut breaker = Breaker::new(LIMITS);
        for _ in 0..10 {
            breaker.failed(false, ms(0), 1.0);
            breaker.failed(false, ms(0), 1.0);
            breaker.succeeded();
        }
        assert_eq!(breaker.pass(ms(0)), Passage::Free);
        (0..3).for_each(|_| breaker.failed(false, ms(0), 1.0));
        assert_eq!(
            (breaker.state(ms(40)), breaker.pass(ms(40))),
            (BreakerState::Open, Passage::Wait(ms(60)))
        );
    }

    #[test]
    fn one_probe_decides_for_all_and_failing_it_is_open_for_longer() {
        let mut breaker = Breaker::new(LIMITS);
        (0..3).for_each(|_| breaker.failed(false, ms(0), 1.0));
        let mut now = ms(100);
        for open in [200, 350, 350] {
            assert_eq!((breaker.pass(now), breaker.pass(now)), (Passage::Probe, Passage::Behind));
            breaker.failed(true, now, 1.0);
            assert_eq!(breaker.pass(now), Passage::Wait(ms(open)));
            now += ms(open);
        }
        assert_eq!(breaker.pass(now), Passage::Probe);
        breaker.succeeded();
        assert_eq!((breaker.state(now), breaker.pass(now)), (BreakerState::Closed, Passage::Free));
    }

    #[test]
    fn a_probe_that_is_given_up_lets_the_next_one_try() {
        let mut breaker = Breaker::new(LIMITS);
        (0..3).for_each(|_| breaker.failed(false, ms(0), 0.0));
        assert_eq!(breaker.pass(ms(50)), Passage::Probe);
        breaker.abandoned();
        assert_eq!(breaker.pass(ms(50)), Passage::Probe);
    }

    proptest! {
        #[test]
        fn nobody_passes_while_open_and_one_at_a_time_while_half_open(
            steps in proptest::collection::vec((0..5_u8, 0..200_u64, 0.0..1.0), 0..300),
        ) {
            let mut breaker = Breaker::new(LIMITS);
            let (mut now, mut free, mut probes) = (ms(0), 0_u32, 0_u32);
            for (step, wait, jitter) in steps {
                now += ms(wait);
                match step {
                    0 | 1 => match (breaker.state(now), breaker.pass(now)) {
                        (BreakerState::Closed, Passage::Free) => free += 1,
                        (BreakerState::HalfOpen, Passage::Probe) => {
                            prop_assert_eq!(probes, 0);
                            probes = 1;
                        }
                        (BreakerState::HalfOpen, Passage::Behind) => prop_assert_eq!(probes, 1),
                        (BreakerState::Open, Passage::Wait(time)) => {
                            prop_assert!(time <= LIMITS.open_max && !time.is_zero());
                        }
                        other => prop_assert!(false, "{:?}", other),
                    },
                    2 if free > 0 => {
                        free -= 1;
                        breaker.failed(false, now, jitter);
                    }
                    3 if probes > 0 => {
                        probes = 0;
                        breaker.failed(true, now, jitter);
                    }
                    4 if free + probes > 0 => {
                        if free > 0 { free -= 1 } else { probes = 0 }
                        breaker.succeeded();
                        prop_assert_eq!(breaker.state(now), BreakerState::Closed);
                        // A probe that is still on its way is one of many now.
                        free += std::mem::take(&mut probes);
                    }
                    _ => {}
                }
            }
        }
    }
}
