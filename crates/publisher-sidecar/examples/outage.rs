//! What an outage of Redis costs the agent: `outage [SECONDS] [MESSAGES A SECOND]`, 60 and 1000 by
//! default. Then what the journal costs: CPU of the sidecar for each message, with and without.

#![allow(clippy::print_stdout, reason = "this is a program")]

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use runcast_testkit::{Process, Redis, Sidecar};
use serde_json::{Value, json};
use tokio::net::UnixStream;
use tokio::time::{MissedTickBehavior, interval, sleep};

/// An agent's connection to its sidecar.
struct Agent {
    sender: SendRequest<Full<Bytes>>,
    number: u64,
}

impl Agent {
    async fn connect(socket: &Path) -> anyhow::Result<Self> {
        let (sender, connection) = handshake(TokioIo::new(UnixStream::connect(socket).await?)).await?;
        // Ends with the sender.
        tokio::spawn(connection);
        Ok(Self { sender, number: 0 })
    }

    async fn call(&mut self, method: &str, path: &str, body: impl Into<Bytes>) -> anyhow::Result<Value> {
        let request = Request::builder().method(method).uri(path).header("host", "sidecar");
        let request = request.header("content-type", "application/x-ndjson").body(Full::new(body.into()))?;
        self.sender.ready().await?;
        let response = self.sender.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        anyhow::ensure!(status.is_success(), "{status}: {}", String::from_utf8_lossy(&body));
        Ok(serde_json::from_slice(&body)?)
    }

    fn lines(&mut self, count: u64) -> String {
        let padding = "x".repeat(200);
        let numbers = self.number + 1..=self.number + count;
        self.number += count;
        numbers
            .map(|n| json!({"type": "output", "content": format!("{n} {padding}")}).to_string() + "\n")
            .collect()
    }

    /// One message a request, at a rate; how long each took.
    async fn write(&mut self, time: Duration, rate: u64) -> anyhow::Result<Vec<Duration>> {
        let mut latencies = Vec::new();
        let mut tick = interval(Duration::from_secs(1) / u32::try_from(rate)?);
        tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let began = Instant::now();
        while began.elapsed() < time {
            tick.tick().await;
            let line = self.lines(1);
            let sent = Instant::now();
            self.call("POST", "/v1/messages", line).await?;
            latencies.push(sent.elapsed());
        }
        Ok(latencies)
    }

    async fn until_drained(&mut self) -> anyhow::Result<Duration> {
        let began = Instant::now();
        loop {
            let status = self.call("GET", "/v1/status", "").await?;
            if status["lanes"]["output/a"]["pending"] == 0 {
                return Ok(began.elapsed());
            }
            sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let seconds: u64 = arguments.next().map_or(Ok(60), |text| text.parse())?;
    let rate: u64 = arguments.next().map_or(Ok(1000), |text| text.parse())?;
    outage(Duration::from_secs(seconds), rate).await?;
    for journal in [false, true, false, true] {
        cost(journal).await?;
    }
    Ok(())
}

async fn outage(time: Duration, rate: u64) -> anyhow::Result<()> {
    let mut redis = Redis::builder().appendonly().start().await;
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("agent.sock");
    let sidecar = Sidecar::new(&redis.url(), "outage", "a")
        .set("RUNCAST__JOURNAL__FOLDER", folder.path().join("journal").display());
    let process = sidecar.serve(&socket).await;
    let mut agent = Agent::connect(&socket).await?;
    agent.write(Duration::from_secs(2), rate).await?;
    let before = agent.write(Duration::from_secs(10).min(time), rate).await?;
    let memory_before = memory(&process)?;
    redis.kill9();
    let during = agent.write(time, rate).await?;
    let memory_during = memory(&process)?;
    let status = agent.call("GET", "/v1/status", "").await?;
    redis.restart().await;
    let drained = agent.until_drained().await?;
    let memory_after = memory(&process)?;
    println!("{} messages, {rate} a second, redis away for {time:?}", agent.number);
    println!("held at the end of the outage: {}", status["journal"]);
    for (when, mut latencies) in [("before", before), ("during", during)] {
        latencies.sort_unstable();
        let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize];
        println!("write {when}: p50 {:?}, p99 {:?}, max {:?}", at(0.5), at(0.99), at(1.0));
    }
    println!("memory: {memory_before} KiB before, {memory_during} KiB during, {memory_after} KiB after");
    println!("drained after {drained:?}");
    Ok(())
}

async fn cost(journal: bool) -> anyhow::Result<()> {
    const MESSAGES: u64 = 100_000;
    let redis = Redis::start().await;
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("agent.sock");
    let mut sidecar = Sidecar::new(&redis.url(), "cost", "a");
    if journal {
        sidecar = sidecar.set("RUNCAST__JOURNAL__FOLDER", folder.path().join("journal").display());
    }
    let process = sidecar.serve(&socket).await;
    let mut agent = Agent::connect(&socket).await?;
    let bodies: Vec<_> = (0..100).map(|_| agent.lines(MESSAGES / 100)).collect();
    agent.until_drained().await?;
    let (cpu, began) = (cpu(&process)?, Instant::now());
    for body in bodies {
        agent.call("POST", "/v1/messages", body).await?;
    }
    agent.until_drained().await?;
    let (took, used) = (began.elapsed(), self::cpu(&process)? - cpu);
    let each = used.as_secs_f64() * 1e6 / MESSAGES as f64;
    let rate = MESSAGES as f64 / took.as_secs_f64();
    println!("journal {journal}: {each:.1} us of CPU a message, {rate:.0} messages a second");
    Ok(())
}

/// Resident, in KiB.
fn memory(process: &Process) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.split_whitespace().next().context("a number")?.parse()?)
}

/// User and system time.
fn cpu(process: &Process) -> anyhow::Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.pid()))?;
    let (_, fields) = stat.rsplit_once(')').context("a name")?;
    let ticks: Vec<u64> =
        fields.split_whitespace().skip(11).take(2).map(str::parse).collect::<Result<_, _>>()?;
    // USER_HZ is 100 everywhere.
    Ok(Duration::from_millis(ticks.iter().sum::<u64>() * 10))
}
