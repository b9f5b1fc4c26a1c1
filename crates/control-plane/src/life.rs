//! What became of a command with one variation. Pure.
//!
//! Two writers tell it: the variation's sidecar in its acks, the control-plane where it ends a command.
//! They are read one after the other in any order, and come to the same life; see
//! [`runcast_protocol::Control`] for why there is only one ending.

use jiff::Timestamp;
use runcast_protocol::{Sequence, Step};
use serde_json::Value;

/// A step that was taken.
#[derive(Debug, Clone, PartialEq)]
pub struct Taken {
    /// Which.
    pub step: Step,
    /// When, by the clock of who tells it.
    pub time: Timestamp,
    /// Why, for people.
    pub reason: Option<String>,
    /// What came of it, for programs.
    pub result: Option<Value>,
    /// Who took it, if a caller did.
    pub caller: Option<String>,
}

/// A command's life with one variation.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Life {
    /// What the sidecar told, with its number.
    acks: Vec<(Sequence, Taken)>,
    /// What the control-plane ended it with, and how far the sidecar's lane was then.
    ended: Option<(Sequence, Taken)>,
}

impl Life {
    /// The sidecar tells a step. Repeats of a step, and what comes after the end, change nothing.
    pub fn acked(&mut self, sequence: Sequence, taken: Taken) {
        let over = self.acks.iter().any(|(_, before)| before.step.is_terminal());
        let repeated = self.acks.iter().any(|(_, before)| before.step == taken.step);
        // Only the control-plane may say the other steps.
        let own = !matches!(taken.step, Step::Issued | Step::Expired | Step::Cancelled);
        let late = self.ended.as_ref().is_some_and(|(upto, _)| sequence > *upto);
        if own && !over && !repeated && !late {
            self.acks.push((sequence, taken));
        }
    }

    /// The control-plane ended it, when the sidecar had told all up to `acks`.
    pub fn ended(&mut self, acks: Sequence, taken: Taken) {
        if self.ended.is_none() {
            // What the sidecar told later came too late.
            self.acks.retain(|(sequence, _)| *sequence <= acks);
            self.ended = Some((acks, taken));
        }
    }

    /// How far it has come.
    pub fn step(&self) -> Step {
        match &self.ended {
            Some((_, ended)) => ended.step,
            None => self.acks.last().map_or(Step::Issued, |(_, taken)| taken.step),
        }
    }

    /// All steps after the first, oldest first.
    pub fn steps(&self) -> impl Iterator<Item = &Taken> {
        let ended = self.ended.as_ref().map(|(_, taken)| taken);
        self.acks.iter().map(|(_, taken)| taken).chain(ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(step: Step) -> Taken {
        Taken { step, time: Timestamp::UNIX_EPOCH, reason: None, result: None, caller: None }
    }

    fn sequence(number: u64) -> Sequence {
        Sequence::new(number).unwrap()
    }

    #[test]
    fn the_first_ending_that_the_sidecar_tells_counts() {
        let mut life = Life::default();
        assert_eq!(life.step(), Step::Issued);
        for (number, step) in [Step::Delivered, Step::Delivered, Step::Accepted, Step::Applied, Step::Failed]
            .into_iter()
            .enumerate()
        {
            life.acked(sequence(number as u64 + 1), taken(step));
        }
        assert_eq!(life.step(), Step::Applied);
        let steps: Vec<_> = life.steps().map(|taken| taken.step).collect();
        assert_eq!(steps, [Step::Delivered, Step::Accepted, Step::Applied]);
    }

    #[test]
    fn an_ending_by_the_control_plane_holds_in_whatever_order_it_is_read() {
        let acks = [(3, Step::Delivered), (5, Step::Applied)];
        for ended_at in 0..=acks.len() {
            let mut life = Life::default();
            for (index, (number, step)) in acks.into_iter().enumerate() {
                if index == ended_at {
                    life.ended(sequence(4), taken(Step::Expired));
                }
                life.acked(sequence(number), taken(step));
            }
            life.ended(sequence(4), taken(Step::Expired));
            assert_eq!(life.step(), Step::Expired);
            let steps: Vec<_> = life.steps().map(|taken| taken.step).collect();
            assert_eq!(steps, [Step::Delivered, Step::Expired], "ended after {ended_at} acks were read");
        }
    }
}
