//! Who may do what only so many may do at a time.

use std::sync::Arc;

use tokio::sync::{Semaphore, SemaphorePermit};

/// One run gets at most this part of the turns that there are.
const SHARE: usize = 4;

/// So many may do something at a time, in the order in which they asked; of one run at most a quarter.
///
/// Guarantee: whoever asks for a turn for a run of which nobody else waits comes after those who have a
/// turn or are next for one, at most a quarter of all turns for each other run, however many wait there.
#[derive(Debug, Clone)]
pub struct Turns {
    all: Arc<Semaphore>,
    share: usize,
}

/// One run's share of the turns.
#[derive(Debug)]
pub struct RunTurns {
    all: Arc<Semaphore>,
    own: Semaphore,
}

/// Whoever has it may go on.
#[derive(Debug)]
pub struct Turn<'a>(#[expect(dead_code, reason = "dropped with it")] [SemaphorePermit<'a>; 2]);

impl Turns {
    /// So many at a time; at least one.
    pub fn new(at_a_time: usize) -> Self {
        let at_a_time = at_a_time.clamp(1, Semaphore::MAX_PERMITS);
        Self { all: Arc::new(Semaphore::new(at_a_time)), share: at_a_time.div_ceil(SHARE) }
    }

    /// The share of one run: everybody of that run must ask the same.
    pub fn of_run(&self) -> RunTurns {
        RunTurns { all: self.all.clone(), own: Semaphore::new(self.share) }
    }
}

impl RunTurns {
    /// Waits for a turn. May be given up at any time.
    pub async fn turn(&self) -> Turn<'_> {
        // First within the run, so that only a share of it stands in the line of all.
        let own = self.own.acquire().await.expect("is never closed");
        let all = self.all.acquire().await.expect("is never closed");
        Turn([own, all])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn a_run_that_wants_all_turns_leaves_some_to_others() {
        let turns = Turns::new(8);
        let (hot, other) = (turns.of_run(), turns.of_run());
        let mut held: Vec<_> = (0..2).map(|_| hot.turn().now_or_never().unwrap()).collect();
        assert!(hot.turn().now_or_never().is_none());
        assert!(other.turn().now_or_never().is_some());
        held.pop();
        assert!(hot.turn().now_or_never().is_some());
    }

    #[test]
    fn a_newcomer_comes_after_a_share_of_those_who_wait() {
        let turns = Turns::new(1);
        let (hot, other) = (turns.of_run(), turns.of_run());
        let held = hot.turn().now_or_never().unwrap();
        let mut waiting: Vec<_> = (0..1000).map(|_| Box::pin(hot.turn())).collect();
        assert!(waiting.iter_mut().all(|turn| turn.now_or_never().is_none()));
        let mut newcomer = Box::pin(other.turn());
        assert!((&mut newcomer).now_or_never().is_none());
        drop(held);
        assert!(newcomer.now_or_never().is_some());
    }
}
