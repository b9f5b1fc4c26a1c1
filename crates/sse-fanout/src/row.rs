//! A row of seats: the viewers of a view who are level with it, written to one after the other.
//!
//! Who sits costs no wake-up: when frames come, whoever brings them, or a task for a long row, writes
//! the same bytes to all its sockets. Frames that pile up meanwhile go out joined in one write; while
//! none are pending none wait. Rows are short, so that many viewers are spread over the cores, and
//! a run with very many does not keep a core to itself.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::runtime::Handle;

use crate::ring_reader::RingReader;
use crate::seat::Seat;
use crate::view::View;

/// Seats in a row: about a millisecond of writing.
const SEATS: usize = 128;

/// A row with so few is served at once by who wakes it: another task's wake-up would cost as much.
const INLINE: usize = 16;

/// [`sse::HEARTBEAT`](runcast_protocol::sse::HEARTBEAT) as a chunk.
const HEARTBEAT: &[u8] = b"2\r\n:\n\r\n";

/// Nothing to do.
const IDLE: u8 = 0;
/// Somebody serves the row, or is about to, and has not seen the last news.
const NEWS: u8 = 1;
/// Somebody serves the row.
const SERVED: u8 = 2;

/// A row of seats.
#[derive(Debug)]
pub struct Row {
    /// Where long rows are served: not with whoever brings the frames.
    runtime: Handle,
    state: AtomicU8,
    /// Seats that are taken, arrivals among them.
    taken: AtomicUsize,
    waiting: Mutex<Waiting>,
    sitting: Mutex<Sitting>,
    /// Whether somebody has left a seat.
    left: AtomicBool,
    /// Whether it is time for a heartbeat, unless there is something to say.
    beat: AtomicBool,
}

/// What whoever serves the row next sees to.
#[derive(Debug, Default)]
struct Waiting {
    arrivals: Vec<Arrival>,
    /// The sockets of those who are to get up; they have arrived before.
    called: Vec<Arc<TcpStream>>,
}

#[derive(Debug)]
struct Arrival {
    seat: Seat,
    reader: RingReader,
}

#[derive(Debug)]
struct Sitting {
    seats: Vec<Seat>,
    /// Where all of them stand.
    reader: RingReader,
    /// When all of them were last written to.
    spoke: Instant,
}

impl Row {
    /// An empty row, served by the runtime that this is called in.
    pub fn new(reader: RingReader) -> Self {
        Self {
            runtime: Handle::current(),
            state: AtomicU8::new(IDLE),
            taken: AtomicUsize::new(0),
            waiting: Mutex::default(),
            sitting: Mutex::new(Sitting { seats: Vec::new(), reader, spoke: Instant::now() }),
            left: AtomicBool::new(false),
            beat: AtomicBool::new(false),
        }
    }

    /// Whether a seat is free.
    pub(crate) fn has_room(&self) -> bool {
        self.taken() < SEATS
    }

    fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// Takes a seat for a viewer that reads as `reader` does.
    pub(crate) fn sit(self: &Arc<Self>, view: &Arc<View>, seat: Seat, reader: RingReader) {
        self.taken.fetch_add(1, Ordering::Relaxed);
        lock(&self.waiting).arrivals.push(Arrival { seat, reader });
        self.wake(view);
    }

    /// Somebody has left: has the seat cleared now, and not with the next frame.
    pub(crate) fn leave(self: &Arc<Self>, view: &Arc<View>) {
        self.left.store(true, Ordering::Relaxed);
        self.wake(view);
    }

    /// Has the viewer at `socket` get up, if it still sits: nobody else may write to it meanwhile.
    pub(crate) fn call(self: &Arc<Self>, view: &Arc<View>, socket: &Arc<TcpStream>) {
        lock(&self.waiting).called.push(socket.clone());
        self.wake(view);
    }

    /// Has everybody get a heartbeat if there was nothing to say for `silence`.
    pub(crate) fn beat(self: &Arc<Self>, view: &Arc<View>, silence: Duration) {
        // Who serves the row just now speaks.
        let is_due = self.sitting.try_lock().is_ok_and(|sitting| sitting.spoke.elapsed() >= silence);
        if is_due && self.taken() > 0 {
            self.beat.store(true, Ordering::Relaxed);
            self.wake(view);
        }
    }

    /// There is news: frames, arrivals, departures. Has them seen to, by a task unless the row is short.
    pub(crate) fn wake(self: &Arc<Self>, view: &Arc<View>) {
        if self.has_server() {
            return;
        }
        if self.taken() > INLINE || !self.serve_once(view) {
            let (row, view) = (self.clone(), view.clone());
            self.runtime.spawn(async move {
                while !row.serve_once(&view) {
                    tokio::task::yield_now().await;
                }
            });
        }
    }

    /// Leaves word that there is news; whether somebody is there who will see it.
    fn has_server(&self) -> bool {
        self.state.swap(NEWS, Ordering::AcqRel) != IDLE
    }

    /// Serves the row; false if there was more news meanwhile.
    fn serve_once(&self, view: &View) -> bool {
        self.state.swap(SERVED, Ordering::AcqRel);
        self.serve(view);
        self.state.compare_exchange(SERVED, IDLE, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    fn serve(&self, view: &View) {
        let mut sitting = lock(&self.sitting);
        // Taken before anything is read: who arrives later than that wakes the row again.
        let Waiting { arrivals, called } = std::mem::take(&mut *lock(&self.waiting));
        if self.left.swap(false, Ordering::Relaxed) {
            sitting.seats.retain(|seat| !seat.is_left());
        }
        // Before anything is written: it is no longer for them.
        called.iter().for_each(|socket| sitting.rise(socket));
        let beat = self.beat.swap(false, Ordering::Relaxed);
        if !sitting.catch_up(view) && beat {
            sitting.write(&Bytes::from_static(HEARTBEAT));
        }
        for Arrival { seat, reader } in arrivals {
            if called.iter().any(|socket| seat.writes_to(socket)) {
                seat.rise(reader, Bytes::new());
            } else {
                sitting.admit(view, seat, reader);
            }
        }
        if !view.has_seats() {
            sitting.rise_all();
        }
        self.taken.store(sitting.seats.len() + lock(&self.waiting).arrivals.len(), Ordering::Relaxed);
    }
}

impl Sitting {
    /// Writes what the ring has to everybody; false if it has nothing.
    fn catch_up(&mut self, view: &View) -> bool {
        let mut has_written = false;
        while !self.seats.is_empty() {
            let Some(chunks) = self.reader.read_chunks(&view.ring(), u64::MAX) else {
                // Nobody came to serve the row for so long that the ring has gone on.
                self.rise_all();
                break;
            };
            if chunks.is_empty() {
                break;
            }
            self.write(&chunks);
            view.sent(self.reader.next());
            has_written = true;
        }
        has_written
    }

    /// Writes bytes to everybody. Who does not take them all gets up.
    fn write(&mut self, bytes: &Bytes) {
        self.spoke = Instant::now();
        let mut index = 0;
        while let Some(seat) = self.seats.get(index) {
            match seat.write(bytes) {
                Ok(written) if written == bytes.len() => index += 1,
                Ok(written) => {
                    self.seats.swap_remove(index).rise(self.reader.clone(), bytes.slice(written..));
                }
                // Its task hears of it as well.
                Err(_) => drop(self.seats.swap_remove(index)),
            }
        }
    }

    /// Gives a seat to a viewer, which is brought to where the others stand.
    fn admit(&mut self, view: &View, seat: Seat, mut reader: RingReader) {
        if self.seats.is_empty() {
            self.reader = reader;
            self.seats.push(seat);
            self.catch_up(view);
            return;
        }
        if reader.next() > self.reader.next() {
            self.catch_up(view);
        }
        while reader.next() != self.reader.next() {
            let Some(chunks) = reader.read_chunks(&view.ring(), self.reader.next()) else {
                return seat.rise(reader, Bytes::new());
            };
            match seat.write(&chunks) {
                Ok(written) if written == chunks.len() => {}
                Ok(written) => return seat.rise(reader, chunks.slice(written..)),
                Err(_) => return,
            }
        }
        self.seats.push(seat);
    }

    fn rise(&mut self, socket: &Arc<TcpStream>) {
        if let Some(index) = self.seats.iter().position(|seat| seat.writes_to(socket)) {
            self.seats.swap_remove(index).rise(self.reader.clone(), Bytes::new());
        }
    }

    fn rise_all(&mut self) {
        for seat in self.seats.drain(..) {
            seat.rise(self.reader.clone(), Bytes::new());
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_heartbeat_is_a_chunk() {
        assert_eq!(HEARTBEAT, crate::chunk::chunk(runcast_protocol::sse::HEARTBEAT));
    }
}
