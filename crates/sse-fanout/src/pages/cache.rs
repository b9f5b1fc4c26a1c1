//! What is kept, oldest first: pages go when they are too old or too much.

use std::collections::VecDeque;
use std::sync::Weak;
use std::time::Duration;

use runcast_bus::EntryId;
use tokio::time::Instant;

use crate::pages::RunPages;

/// Where a page is kept.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) run: Weak<RunPages>,
    pub(super) stream: String,
    pub(super) start: EntryId,
    pub(super) read_at: Instant,
    weight: usize,
}

/// Which pages are kept, in the order in which they came. Pure.
#[derive(Debug)]
pub(super) struct Cache {
    kept: VecDeque<Kept>,
    bytes: usize,
    limit: usize,
}

impl Cache {
    pub(super) fn new(limit: usize) -> Self {
        Self { kept: VecDeque::new(), bytes: 0, limit }
    }

    /// Counts a page; returns those that are to go instead, perhaps itself.
    pub(super) fn keep(
        &mut self,
        (run, stream, start): (Weak<RunPages>, String, EntryId),
        read_at: Instant,
        weight: usize,
    ) -> Vec<Kept> {
        self.kept.push_back(Kept { run, stream, start, read_at, weight });
        self.bytes += weight;
        let mut out = Vec::new();
        while self.bytes > self.limit {
            out.extend(self.pop());
        }
        out
    }

    /// Takes out those that have been kept for longer than `ttl`.
    pub(super) fn too_old(&mut self, ttl: Duration) -> Vec<Kept> {
        let mut out = Vec::new();
        while self.kept.front().is_some_and(|oldest| oldest.read_at.elapsed() >= ttl) {
            out.extend(self.pop());
        }
        out
    }

    fn pop(&mut self) -> Option<Kept> {
        let oldest = self.kept.pop_front()?;
        self.bytes -= oldest.weight;
        Some(oldest)
    }
}
