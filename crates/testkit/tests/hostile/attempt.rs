//! What became of an attack.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::attacks::Attack;

/// How long a service may take to have done with an attack; a slow head has two seconds (`http.header_timeout`).
const PATIENCE: Duration = Duration::from_secs(60);

/// Whom to attack.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    /// A port of this machine.
    Port(u16),
    /// A Unix socket.
    Socket(std::path::PathBuf),
}

/// What became of attacks, by their names: how often what, and after how long at most.
pub(crate) type Outcomes = BTreeMap<String, (BTreeMap<String, usize>, Duration)>;

/// All of them at once.
pub(crate) async fn all_at_once(target: &Target, attacks: Vec<Attack>, seen: &mut Outcomes) {
    let mut ongoing = JoinSet::new();
    for (name, bytes) in attacks {
        let target = target.clone();
        ongoing.spawn(async move {
            let begun = Instant::now();
            (name, attack(&target, bytes).await, begun.elapsed())
        });
    }
    while let Some(result) = ongoing.join_next().await {
        let (name, outcome, took) = result.unwrap();
        let (outcomes, longest) = seen.entry(name).or_default();
        *outcomes.entry(outcome).or_default() += 1;
        *longest = took.max(*longest);
    }
}

/// How many attempts there were, each of which has to be refused or cut off.
pub(crate) fn all_refused(seen: &Outcomes) -> usize {
    for (name, (outcomes, longest)) in seen {
        println!("{name:40} {outcomes:?}, {longest:.1?} at most");
        let refused =
            outcomes.keys().all(|outcome| ["4xx", "cut off", "gRPC error"].contains(&outcome.as_str()));
        assert!(refused, "{name}: {outcomes:?}");
    }
    seen.values().flat_map(|(outcomes, _)| outcomes.values()).sum()
}

/// `4xx`, `cut off`, `gRPC error`, or what is wrong about it.
async fn attack(target: &Target, bytes: Vec<u8>) -> String {
    match target {
        Target::Port(port) => attempt(TcpStream::connect(("127.0.0.1", *port)).await.unwrap(), bytes).await,
        Target::Socket(path) => attempt(UnixStream::connect(path).await.unwrap(), bytes).await,
    }
}

async fn attempt(socket: impl AsyncRead + AsyncWrite, bytes: Vec<u8>) -> String {
    let (mut from, mut to) = tokio::io::split(socket);
    let mut answer = Vec::new();
    let sending = async {
        // Who refuses early does not read on.
        let _ = to.write_all(&bytes).await;
        std::future::pending::<()>().await;
    };
    let receiving = async {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            // Enough to see what it is.
            if answer.len() < 1 << 16 {
                answer.extend_from_slice(&buffer[..length]);
            }
            // A socket that was opened is closed for what comes then.
            if answer.starts_with(b"HTTP/1.1 ") && !answer.starts_with(b"HTTP/1.1 101") && is_whole(&answer) {
                return;
            }
        }
    };
    let ended = timeout(PATIENCE, async {
        tokio::select! {
            () = sending => {}
            () = receiving => {}
        }
    });
    if ended.await.is_err() {
        return "kept open".into();
    }
    let text = String::from_utf8_lossy(&answer);
    let status = text.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3));
    match status {
        None | Some("101") => "cut off".into(),
        Some(status) if status.starts_with('4') && is_guarded(&text) => "4xx".into(),
        Some("200") if grpc_status(&text).is_some_and(|code| code != "0") => "gRPC error".into(),
        Some(_) => text.lines().next().unwrap_or_default().to_owned(),
    }
}

/// Whether browsers are told not to guess what a refusal is, and caches not to keep it. What cannot be read as
/// a request at all is answered before anybody sees it, without a body.
fn is_guarded(answer: &str) -> bool {
    let head = answer.split_once("\r\n\r\n").map_or(answer, |(head, _)| head).to_ascii_lowercase();
    !head.contains("\r\ncontent-type:")
        || head.contains("\r\nx-content-type-options: nosniff")
            && head.contains("\r\ncache-control: no-store")
}

/// Whether an answer says what it is: a gRPC call's status may come at its end.
fn is_whole(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer);
    !text.starts_with("HTTP/1.1 200") || !text.contains("grpc-web") || grpc_status(&text).is_some()
}

fn grpc_status(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("grpc-status:")?;
    rest.lines().next().map(str::trim)
}

/// What nobody ever finishes.
pub(crate) const HALVES: [&[u8]; 4] = [
    b"",
    b"GET /v1/runs/r/events HTTP/1.1\r\nHost: x\r\nX-",
    b"PRI * HT",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
];

/// A call whose message never comes.
pub(crate) const HALF_A_CALL: &[u8] = b"POST /runcast.control.v1.RunService/GetRun HTTP/1.1\r\nHost: x\r\n\
    Connection: close\r\nContent-Type: application/grpc-web+proto\r\nContent-Length: 10\r\n\r\n\0";

/// Sends half a request and then nothing; whether the connection was closed.
pub(crate) async fn half_a_request(port: u16, half: &[u8]) -> bool {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    socket.write_all(half).await.unwrap();
    let mut answer = Vec::new();
    timeout(PATIENCE, socket.read_to_end(&mut answer)).await.is_ok()
}

/// The memory that a process has, in bytes.
pub(crate) fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}
