//! Viewers, by the thousand: one thread, one epoll, and little done for each byte, for the machine is the
//! server's too.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read as _, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;
use hdrhistogram::Histogram;
use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustls::ClientConfig;

use crate::frames::Frames;
use crate::line::Line;
use crate::marker::{Finder, Mark, now};
use crate::server::Server;

/// What a viewer asks for.
#[derive(Debug, Clone, Default)]
pub struct Ask {
    /// The run.
    pub run: String,
    /// Parameters, such as `channels=output`.
    pub query: String,
    /// The last event that was seen, and its number.
    pub seen: Option<(String, u64)>,
}

/// What the viewers saw.
#[derive(Debug, Default)]
pub struct Seen {
    /// Messages, all viewers together.
    pub deliveries: AtomicU64,
    /// Messages that did not come before a later one did.
    pub lost: AtomicU64,
    /// Messages that had come before.
    pub repeated: AtomicU64,
    /// Viewers that have had any answer.
    pub answered: AtomicU64,
    /// Connections that the server has ended.
    pub closed: AtomicU64,
    /// Viewers that have seen the message that is [waited for](Crowd::wait_for).
    pub arrived: AtomicU64,
    target: AtomicU64,
    latency: Mutex<Option<Histogram<u64>>>,
    stop: AtomicBool,
}

/// Viewers that are connected.
#[derive(Debug)]
pub struct Crowd {
    seen: Arc<Seen>,
    poll: Arc<OwnedFd>,
    viewers: mpsc::Sender<Viewer>,
    reader: Option<JoinHandle<Vec<Viewer>>>,
    port: u16,
    tls: Option<Arc<ClientConfig>>,
    count: u64,
    follows_ids: bool,
}

#[derive(Debug)]
struct Viewer {
    socket: Line,
    /// Number of the last message; 0 before the first.
    last: u64,
    has_answer: bool,
    is_closed: bool,
    reading: Reading,
}

#[derive(Debug)]
enum Reading {
    /// Marks as they come.
    Marks(Finder),
    /// Only marks in whole frames, and their ids.
    Frames(Box<Frames>),
}

impl Crowd {
    /// Nobody yet, of this server. Viewers that are to come back must follow the events' ids, which costs more.
    ///
    /// # Errors
    /// If there can be no epoll.
    pub fn new(server: &Server, follows_ids: bool) -> anyhow::Result<Self> {
        let poll = Arc::new(epoll::create(epoll::CreateFlags::CLOEXEC)?);
        let seen = Arc::new(Seen::default());
        let (viewers, arriving) = mpsc::channel();
        let reader = std::thread::spawn({
            let (poll, seen) = (poll.clone(), seen.clone());
            move || read(&poll, &seen, &arriving)
        });
        let (port, tls) = (server.port, server.tls.clone());
        Ok(Self { seen, poll, viewers, reader: Some(reader), port, tls, count: 0, follows_ids })
    }

    /// What the viewers saw.
    pub fn seen(&self) -> &Seen {
        &self.seen
    }

    /// Connects a viewer and asks; does not wait for the answer.
    ///
    /// # Errors
    /// If it cannot connect.
    pub fn join(&mut self, ask: &Ask) -> anyhow::Result<()> {
        let mut socket = Line::connect(self.port, self.tls.as_ref())?;
        request(&mut socket, ask)?;
        socket.set_nonblocking()?;
        let last = ask.seen.as_ref().map_or(0, |(_, number)| *number);
        let reading = if self.follows_ids {
            let (id, _) = ask.seen.clone().unwrap_or_default();
            Reading::Frames(Box::new(Frames::after(id)))
        } else {
            Reading::Marks(Finder::default())
        };
        epoll::add(&self.poll, socket.as_fd(), EventData::new_u64(self.count), EventFlags::IN)?;
        self.viewers.send(Viewer { socket, last, has_answer: false, is_closed: false, reading })?;
        self.count += 1;
        Ok(())
    }

    /// Waits until all have an answer.
    ///
    /// # Errors
    /// If some have none in time.
    pub fn wait_for_answers(&self, within: Duration) -> anyhow::Result<()> {
        self.until(within, "viewers with an answer", |seen| &seen.answered)
    }

    /// Has it counted who has seen message `number`, of whatever run.
    pub fn wait_for(&self, number: u64) {
        self.seen.arrived.store(0, Ordering::Relaxed);
        self.seen.target.store(number, Ordering::Relaxed);
    }

    /// Waits until all have seen the message that is waited for.
    ///
    /// # Errors
    /// If some have not in time.
    pub fn wait_for_arrivals(&self, within: Duration) -> anyhow::Result<()> {
        self.until(within, "viewers with the last message", |seen| &seen.arrived)
    }

    fn until(&self, within: Duration, what: &str, of: impl Fn(&Seen) -> &AtomicU64) -> anyhow::Result<()> {
        let begun = Instant::now();
        while of(&self.seen).load(Ordering::Relaxed) < self.count {
            let (there, closed) =
                (of(&self.seen).load(Ordering::Relaxed), self.seen.closed.load(Ordering::Relaxed));
            anyhow::ensure!(
                begun.elapsed() < within,
                "{there} {what} of {} after {within:?}; {closed} were cut off",
                self.count
            );
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Begins to take the time of what is published from now on.
    pub fn begin_timing(&self) {
        *self.latency() = Some(Histogram::new(3).unwrap_or_else(|_| unreachable!("3 digits are allowed")));
    }

    /// The times, in nanoseconds.
    pub fn end_timing(&self) -> Option<Histogram<u64>> {
        self.latency().take()
    }

    fn latency(&self) -> MutexGuard<'_, Option<Histogram<u64>>> {
        self.seen.latency.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has all leave. Tells where each that follows ids stands: the last event's id, and its number.
    ///
    /// # Errors
    /// If the reading thread has failed.
    pub fn leave(mut self) -> anyhow::Result<Vec<(String, u64)>> {
        let viewers = self.stop().context("the viewers' thread has failed")?;
        let stands = |viewer: &Viewer| match &viewer.reading {
            Reading::Marks(_) => None,
            Reading::Frames(frames) => Some((frames.id().to_owned(), viewer.last)),
        };
        Ok(viewers.iter().filter_map(stands).collect())
    }
}

impl Crowd {
    fn stop(&mut self) -> Option<Vec<Viewer>> {
        self.seen.stop.store(true, Ordering::Relaxed);
        self.reader.take()?.join().ok()
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A viewer who is let alone: it is connected, and nothing is read.
///
/// # Errors
/// If it cannot connect.
pub fn stalled(port: u16, ask: &Ask) -> anyhow::Result<TcpStream> {
    let mut socket = TcpStream::connect(("127.0.0.1", port))?;
    request(&mut socket, ask)?;
    Ok(socket)
}

fn request(socket: &mut impl Write, ask: &Ask) -> anyhow::Result<()> {
    let mut head = format!("GET /v1/runs/{}/events?{} HTTP/1.1\r\nHost: localhost\r\n", ask.run, ask.query);
    if let Some((id, _)) = &ask.seen {
        head.push_str(&format!("Last-Event-ID: {id}\r\n"));
    }
    head.push_str("Accept: text/event-stream\r\n\r\n");
    Ok(socket.write_all(head.as_bytes())?)
}

fn read(poll: &OwnedFd, seen: &Seen, arriving: &mpsc::Receiver<Viewer>) -> Vec<Viewer> {
    let mut viewers: Vec<Viewer> = Vec::new();
    let mut buffer = vec![0; 256 << 10];
    let mut events = vec![Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; 1024];
    let patience = rustix::time::Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
    while !seen.stop.load(Ordering::Relaxed) {
        let Ok(count) = epoll::wait(poll, events.as_mut_slice(), Some(&patience)) else { continue };
        for event in &events[..count] {
            let Ok(index) = usize::try_from(event.data.u64()) else { continue };
            if index >= viewers.len() {
                viewers.extend(arriving.try_iter());
            }
            let Some(viewer) = viewers.get_mut(index) else { continue };
            // Of what TLS has decrypted, the kernel does not know.
            let reads_all = matches!(viewer.socket, Line::Tls(_));
            loop {
                match viewer.socket.read(&mut buffer) {
                    Ok(length @ 1..) => viewer.take(&buffer[..length], seen),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Ok(_) | Err(_) => {
                        viewer.close(poll, seen);
                        break;
                    }
                }
                if !reads_all {
                    break;
                }
            }
        }
    }
    viewers
}

impl Viewer {
    fn take(&mut self, bytes: &[u8], seen: &Seen) {
        if !std::mem::replace(&mut self.has_answer, true) {
            seen.answered.fetch_add(1, Ordering::Relaxed);
        }
        let (at, target) = (now(), seen.target.load(Ordering::Relaxed));
        let mut latency = seen.latency.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut count, last) = (0, &mut self.last);
        let tell = |mark: Mark| {
            count += 1;
            match mark.number.checked_sub(*last) {
                Some(0) | None => {
                    seen.repeated.fetch_add(1, Ordering::Relaxed);
                    return;
                }
                Some(step) if *last > 0 && step > 1 => {
                    seen.lost.fetch_add(step - 1, Ordering::Relaxed);
                }
                Some(_) => {}
            }
            if *last < target && mark.number >= target {
                seen.arrived.fetch_add(1, Ordering::Relaxed);
            }
            *last = mark.number;
            if let Some(latency) = latency.as_mut() {
                // Grows as it must: it cannot fail.
                let _ = latency.record(at.saturating_sub(mark.at));
            }
        };
        match &mut self.reading {
            Reading::Marks(finder) => finder.find(bytes, tell),
            Reading::Frames(frames) => frames.push(bytes, tell),
        }
        seen.deliveries.fetch_add(count, Ordering::Relaxed);
    }

    fn close(&mut self, poll: &OwnedFd, seen: &Seen) {
        if !std::mem::replace(&mut self.is_closed, true) {
            seen.closed.fetch_add(1, Ordering::Relaxed);
            let _ = epoll::delete(poll, self.socket.as_fd());
        }
    }
}

/// How many different places viewers stand at.
pub fn distinct(stand: &[(String, u64)]) -> usize {
    stand.iter().map(|(id, _)| id).collect::<BTreeSet<_>>().len()
}
