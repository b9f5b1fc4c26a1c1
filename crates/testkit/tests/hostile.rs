//! Clients that mean harm: each is refused or cut off, an honest viewer beside them misses nothing, and the service neither
//! ends nor grows.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "this is test code")]

use std::collections::BTreeMap;
use std::time::Duration;

use runcast_protocol::State;
use runcast_testkit::{Fanout, Pen, Redis, http_get};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(120);
const ROUNDS: usize = 5;
/// What the service may grow by: buffers that the allocator keeps. A leak of what was sent would be far more.
const GROWTH: u64 = 48 << 20;

/// What is sent, by name. No answer to it may be a success.
fn attacks() -> Vec<(&'static str, Vec<u8>)> {
    let get = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n").into_bytes();
    let with =
        |header: &str| format!("GET /v1/runs/r/events HTTP/1.1\r\nHost: x\r\n{header}\r\n\r\n").into_bytes();
    let lanes: String = (0..1_000_000).map(|lane| format!("v{lane}:1,")).collect();
    let mut attacks = vec![
        ("nothing of HTTP", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03garbage\r\n\r\n".to_vec()),
        ("zeros", vec![0; 4096]),
        ("no version", b"GET /v1/runs/r/events\r\n\r\n".to_vec()),
        ("a method of 1 MiB", [vec![b'A'; 1 << 20], b" / HTTP/1.1\r\n\r\n".to_vec()].concat()),
        ("an address of 1 MiB", get(&format!("/v1/runs/{}/events", "a".repeat(1 << 20)))),
        ("an id of 129", get(&format!("/v1/runs/{}/events", "a".repeat(129)))),
        ("a cursor of a million lanes", get(&format!("/v1/runs/r/events?after={lanes}"))),
        ("a cursor of 9,000 lanes", get(&format!("/v1/runs/r/events?after={}", &lanes[..60_000]))),
        ("a cursor that is none", get("/v1/runs/r/events?after=%00%0d%0a")),
        ("a number that overflows", get("/v1/runs/r/events?after=v:99999999999999999999999")),
        ("a channel that is none", get("/v1/runs/r/events?channels=output,%2e%2e%2f")),
        ("NUL in an id", get("/v1/runs/a%00b/events")),
        ("a line end in an id", get("/v1/runs/a%0d%0aSet-Cookie:x/events")),
        ("a raw NUL in the address", b"GET /v1/runs/a\0b/events HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        ("the folder above", get("/v1/runs/../../etc/passwd")),
        ("the folder above, encoded", get("/v1/runs/%2e%2e%2f%2e%2e%2fetc%2fpasswd/events")),
        ("the folder above, in assets", get("/assets/..%2f..%2fCargo.toml")),
        ("another run's key", get("/v1/runs/%7Br%7D:output:v/events")),
        ("a pattern", get("/v1/runs/*/events")),
        ("a header of 1 MiB", with(&format!("X: {}", "x".repeat(1 << 20)))),
        ("10,000 headers", with(&(0..10_000).map(|n| format!("X-{n}: y\r\n")).collect::<String>())),
        ("a header with a NUL", with("X: a\0b")),
        ("a header without a colon", with("nonsense")),
        ("Last-Event-ID that is none", with("Last-Event-ID: \u{1}nonsense")),
        ("two lengths", with("Content-Length: 1\r\nContent-Length: 2")),
        ("a length below zero", with("Content-Length: -1")),
        (
            "a body of endless chunks",
            [
                b"POST /v1/runs/r/events HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(),
                b"ffffffffffffffff\r\n".to_vec(),
                vec![b'x'; 1 << 20],
            ]
            .concat(),
        ),
        (
            "a ticket for a body of 1 MiB",
            [
                b"POST /v1/tickets HTTP/1.1\r\nHost: x\r\nContent-Length: 1048576\r\n\r\n".to_vec(),
                vec![b'{'; 1 << 20],
            ]
            .concat(),
        ),
        ("a WebSocket without a key", with("Connection: Upgrade\r\nUpgrade: websocket\r\nX: y")),
    ];
    // A WebSocket's request goes to its own address.
    if let Some((_, bytes)) = attacks.last_mut() {
        *bytes = String::from_utf8_lossy(bytes).replace("/events", "/ws").into_bytes();
    }
    // HTTP/2: resets as fast as they go, and settings without end.
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    let frame = |kind: u8, flags: u8, stream: u32, payload: &[u8]| {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    };
    // :method GET, :scheme http, :path /, :authority x.
    let request = [0x82, 0x86, 0x84, 0x41, 0x01, b'x'];
    let resets = (0..20_000).flat_map(|number| {
        let stream = number * 2 + 1;
        [frame(1, 5, stream, &request), frame(3, 0, stream, &8_u32.to_be_bytes())].concat()
    });
    attacks.push(("HTTP/2: rapid reset", [preface.clone(), resets.collect()].concat()));
    let settings = frame(4, 0, 0, &[]).repeat(50_000);
    attacks.push(("HTTP/2: settings without end", [preface.clone(), settings].concat()));
    let more = [frame(1, 0, 1, &request), frame(9, 0, 1, &[0x40, 1, b'a', 1, b'b']).repeat(50_000)].concat();
    attacks.push(("HTTP/2: headers without end", [preface, more].concat()));
    attacks
}

/// What became of an attack: `4xx`, `cut off`, or what is wrong about it.
async fn attack(port: u16, bytes: Vec<u8>) -> String {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let (mut from, mut to) = socket.split();
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
            answer.extend_from_slice(&buffer[..length.min(1024)]);
            if answer.starts_with(b"HTTP/1.1 ") {
                return;
            }
        }
    };
    let ended = timeout(Duration::from_secs(30), async {
        tokio::select! {
            () = sending => {}
            () = receiving => {}
        }
    });
    if ended.await.is_err() {
        return "kept open".into();
    }
    let text = String::from_utf8_lossy(&answer);
    match text.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.chars().next()) {
        None => "cut off".into(),
        Some('4') => "4xx".into(),
        Some(_) => text.lines().next().unwrap_or_default().to_owned(),
    }
}

fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_means_harm_is_refused_and_nobody_else_notices() {
    let redis = Redis::start().await;
    let options = [("RUNCAST__HTTP__HEADER_TIMEOUT", "2s")];
    let mut fanout = Fanout::start_with(&redis.url(), &options).await;
    let (pid, port) = (fanout.process().pid(), fanout.port());
    let mut pen = Pen::new(&redis.url(), "r", "v");
    pen.state(State::Running).await;
    let mut honest = fanout.viewer("r", "channels=output,status");
    honest.reconnect(DEADLINE).await.unwrap();
    let honest = tokio::spawn(async move {
        honest.watch_to_end(DEADLINE).await.unwrap();
        honest
    });

    // Once, so that what is allocated once for all does not count.
    for (_, bytes) in attacks() {
        attack(port, bytes).await;
    }
    let before = resident(pid);
    let mut seen: BTreeMap<&str, BTreeMap<String, usize>> = BTreeMap::new();
    let (mut said, mut attempts) = (String::new(), 0);
    // Half a request each, for as long as they are let.
    let mut halves = JoinSet::new();
    for _ in 0..200 {
        halves.spawn(async move { attack_slowly(port).await });
    }
    for round in 0..ROUNDS {
        let mut ongoing = JoinSet::new();
        for (name, bytes) in attacks() {
            ongoing.spawn(async move { (name, attack(port, bytes).await) });
        }
        let words = format!("word {round} ");
        pen.say(&words).await;
        said.push_str(&words);
        while let Some(result) = ongoing.join_next().await {
            let (name, outcome) = result.unwrap();
            attempts += 1;
            *seen.entry(name).or_default().entry(outcome).or_default() += 1;
        }
    }
    let cut = halves.join_all().await.into_iter().filter(|cut| *cut).count();
    pen.state(State::Succeeded).await;
    let honest = honest.await.unwrap();
    assert_eq!(honest.history.text("v"), said);
    let after = resident(pid);
    println!("{attempts} attempts, {cut} of 200 half requests cut off; RSS {before} → {after}");
    for (name, outcomes) in &seen {
        println!("{name:40} {outcomes:?}");
        let refused = outcomes.keys().all(|outcome| outcome == "4xx" || outcome == "cut off");
        assert!(refused, "{name}: {outcomes:?}");
    }
    assert_eq!(cut, 200, "slow heads are cut off");
    assert!(after < before + GROWTH, "grew from {before} to {after}");
    let (status, _, _) = http_get(&fanout.url("/v1/runs/r"), &[]).await.unwrap();
    assert_eq!(status, 200, "the service answers");
}

/// Sends half a head and then nothing; whether the connection was closed.
async fn attack_slowly(port: u16) -> bool {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    socket.write_all(b"GET /v1/runs/r/events HTTP/1.1\r\nHost: x\r\nX-").await.unwrap();
    let mut answer = Vec::new();
    timeout(DEADLINE, socket.read_to_end(&mut answer)).await.is_ok()
}
