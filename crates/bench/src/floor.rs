//! The floor: the least that a server can do. One thread, one epoll; ready frames come from Redis and are
//! sent as they are, one `send` for each viewer and frame. It keeps nothing, knows nothing of slow viewers
//! (who does not take a frame at once loses it, and is counted) and cannot be asked what was.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use rustix::event::epoll::{self, Event, EventData, EventFlags};

/// Where it listens, and which Redis it reads.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Loopback port to listen on.
    #[arg(long)]
    pub port: u16,
    /// Loopback port of Redis.
    #[arg(long)]
    pub redis: u16,
}

const LISTENER: u64 = u64::MAX;
const REDIS: u64 = u64::MAX - 1;

const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n\r\n";

/// Serves until killed.
///
/// # Errors
/// If it cannot listen, or loses Redis.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let listener = TcpListener::bind(("127.0.0.1", options.port))?;
    // The standard library's backlog of 128 is short for thousands who come at once.
    rustix::net::listen(&listener, 4096)?;
    listener.set_nonblocking(true)?;
    epoll::add(&poll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
    let mut redis = TcpStream::connect(("127.0.0.1", options.redis))?;
    redis.write_all(b"*2\r\n$10\r\nPSUBSCRIBE\r\n$7\r\nbench:*\r\n")?;
    redis.set_nonblocking(true)?;
    epoll::add(&poll, &redis, EventData::new_u64(REDIS), EventFlags::IN)?;

    let mut sockets: HashMap<u64, TcpStream> = HashMap::new();
    let mut runs: HashMap<Vec<u8>, Vec<u64>> = HashMap::new();
    let mut next = 0;
    let mut said = Vec::new();
    let mut buffer = vec![0; 256 << 10];
    let mut events = vec![Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; 512];
    loop {
        let count = epoll::wait(&poll, events.as_mut_slice(), None)?;
        for event in &events[..count] {
            match event.data.u64() {
                LISTENER => {
                    while let Ok((socket, _)) = listener.accept() {
                        socket.set_nonblocking(true)?;
                        socket.set_nodelay(true)?;
                        epoll::add(&poll, &socket, EventData::new_u64(next), EventFlags::IN)?;
                        sockets.insert(next, socket);
                        next += 1;
                    }
                }
                REDIS => {
                    let length = match redis.read(&mut buffer) {
                        Ok(0) => anyhow::bail!("redis has closed the connection"),
                        Ok(length) => length,
                        Err(_) => continue,
                    };
                    said.extend_from_slice(&buffer[..length]);
                    let mut done = 0;
                    while let Some((message, length)) = pmessage(&said[done..]) {
                        if let Some((channel, frame)) = message {
                            for id in runs.get(channel).into_iter().flatten() {
                                if let Some(mut socket) = sockets.get(id) {
                                    let _ = socket.write(frame);
                                }
                            }
                        }
                        done += length;
                    }
                    said.drain(..done);
                }
                id => {
                    let Some(mut socket) = sockets.get(&id) else { continue };
                    match socket.read(&mut buffer) {
                        Ok(length) if length > 0 => {
                            let run = buffer[..length].split(|byte| *byte == b'/').nth(3).unwrap_or_default();
                            runs.entry([b"bench:", run].concat()).or_default().push(id);
                            let _ = socket.write(HEAD);
                        }
                        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                        _ => {
                            sockets.remove(&id);
                        }
                    }
                }
            }
        }
    }
}

type Pmessage<'a> = Option<(&'a [u8], &'a [u8])>;

/// The first reply in `bytes`, if it is whole: what it published, if it is a `pmessage`, and its length.
fn pmessage(bytes: &[u8]) -> Option<(Pmessage<'_>, usize)> {
    let mut at = 0;
    let count = number(bytes, &mut at, b'*')?;
    let mut parts: [&[u8]; 4] = [&[]; 4];
    for part in parts.iter_mut().take(count) {
        if bytes.get(at)? == &b':' {
            number(bytes, &mut at, b':')?;
            continue;
        }
        let length = number(bytes, &mut at, b'$')?;
        *part = bytes.get(at..at + length)?;
        at += length + 2;
        if at > bytes.len() {
            return None;
        }
    }
    Some(((parts[0] == b"pmessage").then_some((parts[2], parts[3])), at))
}

fn number(bytes: &[u8], at: &mut usize, kind: u8) -> Option<usize> {
    let line = bytes.get(*at..)?.split(|byte| *byte == b'\r').next()?;
    if *at + line.len() + 2 > bytes.len() || line.first() != Some(&kind) {
        return None;
    }
    *at += line.len() + 2;
    std::str::from_utf8(&line[1..]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_read_once_they_are_whole() {
        let subscribed = b"*3\r\n$10\r\npsubscribe\r\n$7\r\nbench:*\r\n:1\r\n";
        let message = b"*4\r\n$8\r\npmessage\r\n$7\r\nbench:*\r\n$7\r\nbench:r\r\n$5\r\na\r\nb\n\r\n";
        let all = [&subscribed[..], message].concat();
        for length in 0..all.len() {
            let mut at = 0;
            while let Some((_, read)) = pmessage(&all[at..length]) {
                at += read;
            }
            assert!(at == 0 || at == subscribed.len(), "{length}");
        }
        assert_eq!(pmessage(&all), Some((None, subscribed.len())));
        let (channel, frame): (&[u8], &[u8]) = (b"bench:r", b"a\r\nb\n");
        assert_eq!(pmessage(message), Some((Some((channel, frame)), message.len())));
    }
}
