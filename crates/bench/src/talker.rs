//! Who publishes: paced, and stamped with the time when it was due to be sent, so that a server that
//! cannot keep up is seen to be late.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::marker::{Mark, message, now};

/// How a system is published to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// As Runcast's sidecars do: a batch appended to the stream and published, by the script.
    Append,
    /// As [`Wire::Append`], without the stream: what the servers behind it see is the same.
    Publish,
    /// `PUBLISH bench:{run}` of a ready frame.
    Frame,
    /// `PUBLISH bench:{run}` of a message.
    Message,
    /// `POST /publish/{run}` of a message.
    Post,
}

/// What runs in one step are due is published in it; those of one run in one batch.
const STEP: Duration = Duration::from_millis(1);

/// Publishes to runs.
#[derive(Debug)]
pub struct Talker {
    wire: Wire,
    sockets: Vec<TcpStream>,
    runs: Vec<String>,
    /// Number of each run's last message.
    numbers: Vec<u64>,
    script: String,
    out: Vec<u8>,
    turn: usize,
    refused: Arc<AtomicU64>,
}

impl Talker {
    /// Publishes to `runs`, through Redis at the port, or for [`Wire::Post`] through the server there.
    ///
    /// # Errors
    /// If it cannot connect.
    pub fn new(wire: Wire, port: u16, runs: Vec<String>) -> anyhow::Result<Self> {
        let refused = Arc::new(AtomicU64::new(0));
        let mut sockets = Vec::new();
        for _ in 0..if wire == Wire::Post { 4 } else { 1 } {
            let socket = TcpStream::connect(("127.0.0.1", port))?;
            socket.set_nodelay(true)?;
            sockets.push(socket);
        }
        let numbers = vec![0; runs.len()];
        let mut talker =
            Self { wire, sockets, runs, numbers, script: String::new(), out: Vec::new(), turn: 0, refused };
        if matches!(wire, Wire::Append | Wire::Publish) {
            talker.script = talker.ask(&[b"SCRIPT", b"LOAD", runcast_bus::APPEND_SCRIPT.as_bytes()])?;
            for run in 0..talker.runs.len() {
                talker.append(run, 0, b"");
            }
            talker.flush()?;
            let mut replies = vec![0; 1 << 20];
            let mut lines = 0;
            // Each is an array of three bulk strings: seven lines.
            while lines < talker.runs.len() * 7 {
                let length = talker.sockets[0].read(&mut replies)?;
                anyhow::ensure!(length > 0, "redis has closed the connection");
                lines += replies[..length].iter().filter(|byte| **byte == b'\n').count();
            }
        }
        for socket in &talker.sockets {
            let (socket, refused) = (socket.try_clone()?, talker.refused.clone());
            std::thread::spawn(move || drain(socket, &refused));
        }
        Ok(talker)
    }

    /// Number of a run's last message.
    pub fn last(&self, run: usize) -> u64 {
        self.numbers[run]
    }

    /// How many were not taken.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Publishes so many messages a second, all runs together and in turn, for a time.
    ///
    /// # Errors
    /// If the connection breaks.
    pub fn talk(&mut self, rate: f64, time: Duration) -> anyhow::Result<()> {
        let begun = Instant::now();
        let mut said = 0;
        while begun.elapsed() < time {
            // Whole messages: the rate is far below what a float tells apart.
            let due = (begun.elapsed().as_secs_f64() * rate) as u64;
            if due > said {
                self.say(due - said)?;
                said = due;
            }
            std::thread::sleep(STEP);
        }
        Ok(())
    }

    /// Publishes so many messages now.
    ///
    /// # Errors
    /// If the connection breaks.
    pub fn say(&mut self, count: u64) -> anyhow::Result<()> {
        if self.runs.len() == 1 {
            self.publish(0, count);
        } else {
            for _ in 0..count {
                self.publish(self.turn, 1);
                self.turn = (self.turn + 1) % self.runs.len();
            }
        }
        self.flush()
    }

    fn publish(&mut self, run: usize, count: u64) {
        if matches!(self.wire, Wire::Append | Wire::Publish) {
            // As sidecars do: not more than so much in one batch.
            let mut left = count;
            while left > 0 {
                let batch = left.min(64);
                self.batch(run, batch);
                left -= batch;
            }
            return;
        }
        for _ in 0..count {
            self.numbers[run] += 1;
            let mark = Mark { at: now(), number: self.numbers[run] };
            let name = self.runs[run].clone();
            let mut text = Vec::with_capacity(320);
            if self.wire == Wire::Frame {
                text.extend_from_slice(format!("id: v:{}\nevent: output\ndata: ", mark.number).as_bytes());
            }
            message(&mut text, &name, mark);
            match self.wire {
                Wire::Frame => {
                    text.extend_from_slice(b"\n\n");
                    command(&mut self.out, &[b"PUBLISH", format!("bench:{name}").as_bytes(), &text]);
                }
                Wire::Post => {
                    let head = format!(
                        "POST /publish/{name} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
                        text.len()
                    );
                    self.out.extend_from_slice(head.as_bytes());
                    self.out.extend_from_slice(&text);
                }
                _ => command(&mut self.out, &[b"PUBLISH", format!("bench:{name}").as_bytes(), &text]),
            }
        }
    }

    fn batch(&mut self, run: usize, count: u64) {
        let mut text = Vec::with_capacity(300 * 64);
        let before = self.numbers[run];
        for number in before + 1..=before + count {
            if !text.is_empty() {
                text.push(b'\n');
            }
            message(&mut text, &self.runs[run], Mark { at: now(), number });
        }
        self.numbers[run] = before + count;
        if self.wire == Wire::Publish {
            let stream = format!("run:{{{}}}:output:v", self.runs[run]);
            command(&mut self.out, &[b"PUBLISH", stream.as_bytes(), &text]);
        } else {
            self.append(run, before, &text);
        }
    }

    /// One call of the append script; the order of its arguments stands at its head.
    fn append(&mut self, run: usize, before: u64, batch: &[u8]) {
        let name = &self.runs[run];
        let (stream, lanes) = (format!("run:{{{name}}}:output:v"), format!("run:{{{name}}}:lanes"));
        let epoch = if batch.is_empty() { "0" } else { "1" };
        let (first, last) = ((before + 1).to_string(), self.numbers[run].to_string());
        let before = before.to_string();
        let parts: [&[u8]; 15] = [
            b"EVALSHA",
            self.script.as_bytes(),
            b"2",
            stream.as_bytes(),
            lanes.as_bytes(),
            b"output/v",
            epoch.as_bytes(),
            first.as_bytes(),
            last.as_bytes(),
            batch,
            b"own",
            b"600",
            b"20000",
            b"PUBLISH",
            before.as_bytes(),
        ];
        command(&mut self.out, &parts);
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        // A connection for each flush in turn: one run's messages of one step stay in order.
        let count = self.sockets.len();
        let index = if self.runs.len() == 1 { 0 } else { self.turn % count };
        self.sockets[index].write_all(&self.out)?;
        self.out.clear();
        Ok(())
    }

    /// Asks Redis for a bulk string.
    fn ask(&mut self, parts: &[&[u8]]) -> anyhow::Result<String> {
        command(&mut self.out, parts);
        self.flush()?;
        let mut reply = [0; 256];
        let length = self.sockets[0].read(&mut reply)?;
        let text = String::from_utf8_lossy(&reply[..length]).into_owned();
        let answer = text.strip_prefix('$').and_then(|rest| rest.split("\r\n").nth(1));
        Ok(answer.ok_or_else(|| anyhow::anyhow!("redis answers {text:?}"))?.to_owned())
    }
}

/// Writes a command as Redis reads it.
pub fn command(out: &mut Vec<u8>, parts: &[&[u8]]) {
    out.extend_from_slice(format!("*{}\r\n", parts.len()).as_bytes());
    for part in parts {
        out.extend_from_slice(format!("${}\r\n", part.len()).as_bytes());
        out.extend_from_slice(part);
        out.extend_from_slice(b"\r\n");
    }
}

/// Reads answers so that the server is not held up; counts those that begin a line as errors do.
fn drain(mut socket: TcpStream, refused: &AtomicU64) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(length) = socket.read(&mut buffer) {
        if length == 0 {
            return;
        }
        let bad = |start: &[u8]| buffer[..length].windows(start.len()).filter(|part| *part == start).count();
        let count =
            bad(b"\r\n-ERR") + bad(b"REWIND") + bad(b"FENCED") + bad(b"HTTP/1.1 4") + bad(b"HTTP/1.1 5");
        refused.fetch_add(count as u64, Ordering::Relaxed);
    }
}
