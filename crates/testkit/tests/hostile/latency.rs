//! How long a viewer waits for what is said, while something else goes on.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use runcast_protocol::State;
use runcast_testkit::{Pen, Redis, eventually};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

/// How often something is said.
const EVERY: Duration = Duration::from_millis(20);

/// What was measured.
#[derive(Debug)]
pub(crate) struct Latency {
    count: usize,
    p50: Duration,
    p99: Duration,
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p50 {:.1?}, p99 {:.1?} of {}", self.p50, self.p99, self.count)
    }
}

/// Says a word in a run of its own every so often until `ongoing` ends, and sees when a viewer has it.
pub(crate) async fn of(redis: &Redis, port: u16, ongoing: impl Future<Output = ()>) -> Latency {
    let run = format!("latency-{}", rand::random::<u32>());
    let mut pen = Pen::new(&redis.url(), &run, "v");
    pen.state(State::Running).await;
    let seen: Arc<Mutex<HashMap<usize, Instant>>> = Arc::default();
    let reading = tokio::spawn(read(port, run.clone(), seen.clone()));
    let mut said = Vec::new();
    // The first tells that the viewer is there.
    pen.say("w0;").await;
    let has = async |number: usize| seen.lock().unwrap().contains_key(&number).then_some(());
    eventually("the viewer is there", Duration::from_secs(20), async || has(0).await).await;
    let saying = async {
        for number in 1.. {
            tokio::time::sleep(EVERY).await;
            said.push(Instant::now());
            pen.say(&format!("w{number};")).await;
        }
    };
    tokio::select! {
        () = saying => {}
        () = ongoing => {}
    }
    let last = said.len().saturating_sub(1);
    eventually("the viewer has all", Duration::from_secs(20), async || has(last).await).await;
    reading.abort();
    let seen = seen.lock().unwrap();
    let mut times: Vec<Duration> =
        said.iter().take(last).enumerate().map(|(at, said)| seen[&(at + 1)].duration_since(*said)).collect();
    times.sort_unstable();
    let quantile = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    Latency { count: times.len(), p50: quantile(0.5), p99: quantile(0.99) }
}

async fn read(port: u16, run: String, seen: Arc<Mutex<HashMap<usize, Instant>>>) {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let request = format!("GET /v1/runs/{run}/events?merge=false HTTP/1.1\r\nHost: x\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut lines = BufReader::new(socket).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let now = Instant::now();
        let word = line.split('w').find_map(|part| part.split_once(';')?.0.parse::<usize>().ok());
        if let Some(number) = word {
            seen.lock().unwrap().entry(number).or_insert(now);
        }
    }
}
