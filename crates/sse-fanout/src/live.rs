//! A viewer that reads the view's ring.

use std::sync::Arc;

use runcast_protocol::Cursor;
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::catch_up::CatchUp;
use crate::past::Past;
use crate::ring_reader::RingReader;
use crate::seat::Seated;
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

    /// The frames that are there. A viewer that fell out of the ring goes back to reading the streams.
    pub fn step(&mut self) -> Step {
        loop {
            // Looked at before the ring, so that what comes in between is seen as a change.
            let progress = *self.progress.borrow_and_update();
            let Some(frames) = self.reader.read(&self.past.view.ring()) else {
                return self.fall_back();
            };
            if !frames.is_empty() {
                self.past.view.sent(self.reader.next());
                return Step::Frames(frames);
            }
            // A chunk may have been left out as a whole; only at the end there is something to wait for.
            if self.reader.next() < progress.end {
                continue;
            }
            return if progress.is_over || progress.is_let_go { Step::Over } else { Step::Idle };
        }
    }

    /// Waits until another step may give something.
    pub async fn changed(&mut self) {
        // Whoever sends is in the view, which this holds.
        let _ = self.progress.changed().await;
    }

    /// Where the viewer stands.
    pub fn position(&self) -> Cursor {
        self.reader.position()
    }

    /// Of what, and before which frame.
    pub fn stands(&self) -> (&Past, u64) {
        (&self.past, self.reader.next())
    }

    /// Whether frames reach it as they are.
    pub fn is_level(&self) -> bool {
        self.reader.is_level()
    }

    /// Whether there are seats for who is level.
    pub fn has_seats(&self) -> bool {
        self.past.view.has_seats()
    }

    /// Where it reads on.
    pub fn place(&self) -> (Past, RingReader) {
        (self.past.clone(), self.reader.clone())
    }

    /// Takes a seat in the view.
    pub fn sit(self, socket: Arc<TcpStream>) -> (Past, Seated) {
        let seated = self.past.view.sit(socket, self.reader);
        (self.past, seated)
    }

    fn fall_back(&self) -> Step {
        Step::Enter(Box::new(Phase::CatchUp(CatchUp::new(self.past.clone(), self.position()))))
    }
}
