//! kill -9 of a sidecar at random instants while an agent writes: `kill9 [KILLS]`, 500 by default.
//! Prints what was accepted, lost, and there twice.

#![allow(clippy::print_stdout, reason = "this is a program")]

use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use runcast_bus::{Bus, EntryId, RedisConfig};
use runcast_protocol::{Batch, Lane, Message, RunId};
use runcast_testkit::{Redis, Sidecar, unix_post};
use serde_json::json;

const RUN: &str = "kill9";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let kills: u64 = std::env::args().nth(1).map_or(Ok(500), |count| count.parse())?;
    let redis = Redis::start().await;
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("agent.sock");
    let sidecar = Sidecar::new(&redis.url(), RUN, "a")
        .set("RUNCAST__JOURNAL__FOLDER", folder.path().join("journal").display());
    let (mut accepted, mut number, began) = (Vec::new(), 0_u64, Instant::now());
    for kill in 0..kills {
        let process = Mutex::new(sidecar.serve(&socket).await);
        let life = Duration::from_micros(std::hash::RandomState::new().hash_one(kill) % 60_000);
        let killer = async {
            tokio::time::sleep(life).await;
            process.lock().expect("no panic").kill9();
        };
        let agent = async {
            loop {
                number += 1;
                let padding = "x".repeat((number * 7_919 % 400) as usize);
                let line = json!({"type": "output", "content": format!("{number} {padding}")}).to_string();
                match unix_post(&socket, "/v1/messages", "application/x-ndjson", line).await {
                    Ok((200, _)) => accepted.push(number),
                    _ => return,
                }
            }
        };
        tokio::join!(killer, agent);
    }
    let took = began.elapsed();
    let _process = sidecar.serve(&socket).await;
    let (status, _) = unix_post(&socket, "/v1/finish", "application/json", "").await?;
    anyhow::ensure!(status == 200, "finish was answered with {status}");

    let (numbers, in_order) = in_lane(&redis.url()).await?;
    let mut times = BTreeMap::<u64, u64>::new();
    numbers.iter().for_each(|number| *times.entry(*number).or_default() += 1);
    let lost = accepted.iter().filter(|number| !times.contains_key(number)).count();
    let twice = times.values().filter(|&&times| times > 1).count();
    let unknown = times.len() + lost - accepted.len();
    println!("kills {kills} in {took:.1?}");
    println!("attempted {number}, accepted {}, in the lane {}", accepted.len(), numbers.len());
    println!("in the lane though the answer was cut off: {unknown}");
    println!("lost {lost}, twice {twice}, in order {in_order}");
    anyhow::ensure!(lost == 0 && twice == 0 && in_order, "the journal does not keep its promise");
    Ok(())
}

/// The agent's numbers as they are in Redis, and whether lane and agent count alike.
async fn in_lane(url: &str) -> anyhow::Result<(Vec<u64>, bool)> {
    let bus = Bus::connect(&RedisConfig::new(url))?;
    let (run, lane): (_, Lane) = (RunId::new(RUN)?, "output/a".parse()?);
    let (mut after, mut numbers, mut sequences) = (EntryId::default(), Vec::new(), Vec::new());
    loop {
        let page = bus.read(&run, &lane, after, 1_000).await?;
        for payload in page.batches {
            for entry in Batch::parse(payload)?.entries {
                let text = Message::parse(&entry.line)?.content.to_text().unwrap_or_default();
                numbers.push(text.split(' ').next().unwrap_or_default().parse()?);
                sequences.push(entry.sequence.get());
            }
        }
        after = page.end;
        if page.is_last {
            let without_hole = sequences.iter().copied().eq(1..=sequences.len() as u64);
            return Ok((numbers.clone(), without_hole && numbers.is_sorted()));
        }
    }
}
