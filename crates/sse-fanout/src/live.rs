//! A viewer that reads the view's ring.

use runcast_protocol::Cursor;
use tokio::sync::watch;

use crate::catch_up::CatchUp;
use crate::past::Past;
use crate::ring_reader::RingReader;
use crate::view::Progress;
use crate::viewer::{Phase, Step};

/// A viewer that reads the view's ring.
#[derive(Debug)]
pub struct Live {
    past: Past,
    progress: watch::Receiver<Progress>,
    reader: RingReader,
}

impl Live {
    /// A viewer that reads as `reader` does, and whatever that falls out of from the streams.
    pub fn new(past: Past, reader: RingReader) -> Self {
        let progress = past.view.progress();
        Self { past, progress, reader }
    }

    /// The frames that are there, or else waits for some. A viewer that fell out of the ring goes
    /// back to reading the streams.
    pub async fn step(&mut self) -> Step {
        loop {
            // Looked at before the ring, so that what comes in between is seen as a change.
            let progress = *self.progress.borrow_and_update();
            let Some(frames) = self.reader.read(&self.past.view.ring()) else {
                return self.fall_back();
            };
            if !frames.is_empty() {
                return Step::Frames(frames);
            }
            // A chunk may have been left out as a whole; only at the end there is something to wait for.
            if self.reader.next() < progress.end {
                continue;
            }
            if progress.is_over || progress.is_let_go || self.progress.changed().await.is_err() {
                return Step::Over;
            }
        }
    }

    fn fall_back(&self) -> Step {
        let cursor: Cursor = self.reader.position();
        Step::Enter(Box::new(Phase::CatchUp(CatchUp::new(self.past.clone(), cursor))))
    }
}
