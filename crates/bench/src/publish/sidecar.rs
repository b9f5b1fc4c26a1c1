//! The real sidecar, fed over its Unix socket by one stream of messages, as an agent would.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use runcast_testkit::Process;

use super::server::Server;
use super::text::texts;
use super::{MAX_ENTRIES, Row};
use crate::usage;

const STREAM: &str = "run:{bench}:output:a";
const LANE: &str = "output/a";
const PATIENCE: Duration = Duration::from_secs(60);

/// Lines that are written at once when there is no rate to keep.
const AT_ONCE: u64 = 64;

/// How fast the agent speaks.
#[derive(Debug, Clone, Copy)]
pub(super) enum Pace {
    /// Messages a second.
    Rate(u64),
    /// As the sidecar takes them.
    AsFastAsItTakes,
}

/// With the sidecar's defaults; its journal is in memory, or in a folder on disk.
pub(super) fn measure(
    server: &Server<'_>,
    program: &Path,
    pace: Pace,
    messages: u64,
    journal: bool,
) -> anyhow::Result<Row> {
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("agent.sock");
    let mut command = Command::new(program);
    command.args(["--run", "bench", "--variation", "a", "serve"]).env("RUNCAST__API__LISTEN", "");
    command.env("RUNCAST__REDIS__URL", server.redis.url()).env("RUNCAST__API__SOCKET", &socket);
    command.env("RUNCAST__STREAM__MAX_ENTRIES", MAX_ENTRIES.to_string());
    if journal {
        command.env("RUNCAST__JOURNAL__FOLDER", folder.path().join("journal"));
    }
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let mut sidecar = Process::start("runcast-sidecar", command);
    until("it listens", || {
        ensure!(sidecar.is_running(), "the sidecar ended: {}", sidecar.log());
        Ok(UnixStream::connect(&socket).is_ok())
    })?;
    // The first message waits for the connection to Redis and for the script.
    feed(&socket, Pace::AsFastAsItTakes, 1)?;
    until("the first message is in Redis", || Ok(server.last("bench", LANE)? == 1))?;

    let entries = server.added(STREAM)?;
    let (redis, publisher, start) = (server.cpu()?, usage::time_of(sidecar.pid())?, Instant::now());
    feed(&socket, pace, messages)?;
    // Asked only from now on: the questions would be part of what Redis's time goes to.
    until("all are in Redis", || Ok(server.last("bench", LANE)? > messages))?;
    let seconds = start.elapsed().as_secs_f64();
    let publisher = usage::time_of(sidecar.pid())?.saturating_sub(publisher);
    let redis = server.cpu()?.saturating_sub(redis);

    let each = |used: Duration| used.as_secs_f64() * 1e6 / messages as f64;
    let pace = match pace {
        Pace::Rate(rate) => format!("{rate} messages/s"),
        Pace::AsFastAsItTakes => "as fast as it takes".to_owned(),
    };
    Ok(Row {
        way: format!("sidecar, {pace}{}", if journal { ", on disk" } else { "" }),
        messages,
        seconds,
        redis_us: each(redis),
        publisher_us: Some(each(publisher)),
        entries: server.added(STREAM)? - entries,
        lost: (messages + 1).saturating_sub(server.last("bench", LANE)?),
    })
}

/// Speaks, and hears that all was accepted.
fn feed(socket: &Path, pace: Pace, messages: u64) -> anyhow::Result<()> {
    let texts = texts().into_iter();
    let lines: Vec<_> =
        texts.map(|text| format!("{{\"type\":\"output\",\"content\":\"{text}\"}}\n")).collect();
    let mut stream = UnixStream::connect(socket)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(
        b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
        Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n",
    )?;
    let (start, mut sent) = (Instant::now(), 0);
    while sent < messages {
        let due = match pace {
            Pace::Rate(rate) => u64::try_from(start.elapsed().as_micros())? * rate / 1_000_000,
            Pace::AsFastAsItTakes => sent + AT_ONCE,
        };
        let due = due.min(messages);
        let mut chunk = String::new();
        for number in sent..due {
            chunk.push_str(&lines[usize::try_from(number)? % lines.len()]);
        }
        if !chunk.is_empty() {
            stream.write_all(format!("{:x}\r\n{chunk}\r\n", chunk.len()).as_bytes())?;
        }
        sent = due;
        if let Pace::Rate(rate) = pace {
            let next = Duration::from_micros((sent + 1) * 1_000_000 / rate);
            sleep(next.saturating_sub(start.elapsed()));
        }
    }
    stream.write_all(b"0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer.contains(&format!("\"accepted\":{messages},")), "the sidecar answers {answer}");
    Ok(())
}

fn until(what: &str, mut condition: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let start = Instant::now();
    while !condition().with_context(|| format!("waiting until {what}"))? {
        ensure!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        sleep(Duration::from_millis(10));
    }
    Ok(())
}
