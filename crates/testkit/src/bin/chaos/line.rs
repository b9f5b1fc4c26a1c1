//! The lines that agents write: numbered, and checksummed so that a line put together from two
//! would be noticed.

use std::hash::{DefaultHasher, Hash, Hasher};

/// A line of an agent, with its line end.
pub(crate) fn write(agent: usize, number: u64) -> String {
    format!("{agent} {number} {:016x}\n", checksum(agent, number))
}

/// The number of an agent's line; none if it is not one.
pub(crate) fn read(agent: usize, line: &str) -> Option<u64> {
    let mut words = line.split(' ');
    let (own, number, sum) = (words.next()?, words.next()?.parse().ok()?, words.next()?);
    (own == agent.to_string() && sum == format!("{:016x}", checksum(agent, number))).then_some(number)
}

fn checksum(agent: usize, number: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    (agent, number).hash(&mut hasher);
    hasher.finish()
}
