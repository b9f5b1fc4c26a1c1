//! What compressing a viewer's stream costs and saves: bytes and CPU per event, memory per viewer.
//!
//! `cargo run --release -p runcast-sse-fanout --example compression`. Each line is 20,000 events of an agent's words,
//! `joined` at a time. `alone` is what blocks without a history would take, which many viewers could share.

#![expect(clippy::print_stdout, reason = "a table for the terminal")]

use std::io;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use runcast_protocol::{EventName, MessageType, sse};
use runcast_sse_fanout::compression::{Encoder, Encoding};

const EVENTS: usize = 20_000;
const VIEWERS: usize = 1_000;
const WORDS: &str = "the agent reads a file and writes what it found into the plan so that the next step can begin \
    with it while tests run in the background and errors are told to whoever watches return value of function";

fn main() -> io::Result<()> {
    println!(
        "| encoding | events joined | bytes/event | of plain | CPU µs/event | alone: bytes/event | CPU µs/event |"
    );
    println!("|---|---|---|---|---|---|---|");
    for joined in [1, 4, 16] {
        let writes = writes(joined);
        let plain: usize = writes.iter().map(Vec::len).sum();
        println!("| plain | {joined} | {:.0} | 1 | 0 | | |", per_event(plain));
        for encoding in [Encoding::Zstd, Encoding::Gzip] {
            let begin = cpu();
            let mut encoder = Encoder::new(encoding)?;
            let mut sent = 0;
            for write in &writes {
                sent += encoder.write(write)?.len();
            }
            let between = cpu();
            let mut alone = 0;
            for write in &writes {
                let mut encoder = Encoder::new(encoding)?;
                alone += encoder.write(write)?.len() + encoder.finish()?.len();
            }
            println!(
                "| {} | {joined} | {:.0} | {:.2} | {:.1} | {:.0} | {:.1} |",
                encoding.name(),
                per_event(sent),
                per_event(sent) / per_event(plain),
                per_event(between - begin) / 1e3,
                per_event(alone),
                per_event(cpu() - between) / 1e3,
            );
        }
    }
    println!();
    let writes = writes(1);
    for encoding in [Encoding::Zstd, Encoding::Gzip] {
        let before = resident()?;
        let mut viewers = Vec::with_capacity(VIEWERS);
        for _ in 0..VIEWERS {
            let mut encoder = Encoder::new(encoding)?;
            for write in &writes[..200] {
                encoder.write(write)?;
            }
            viewers.push(encoder);
        }
        println!(
            "{}: {} KiB of memory for each viewer",
            encoding.name(),
            (resident()? - before) / 1024 / VIEWERS
        );
    }
    Ok(())
}

/// What an agent says a few words at a time, as frames.
fn writes(joined: usize) -> Vec<Vec<u8>> {
    let mut random = SmallRng::seed_from_u64(6);
    let words: Vec<&str> = WORDS.split_whitespace().collect();
    let mut time = 0;
    let frames: Vec<Vec<u8>> = (1..=EVENTS)
        .map(|number| {
            time += random.random_range(5_000..40_000);
            let text: Vec<&str> =
                (0..random.random_range(1..6)).map(|_| words[random.random_range(0..words.len())]).collect();
            let message = serde_json::json!({
                "timestamp": format!("2026-01-10T10:{:02}:{:02}.{:06}Z", time / 60_000_000 % 60, time / 1_000_000 % 60, time % 1_000_000),
                "run_id": "run-abc123", "variation_id": "var-1", "sequence": number, "type": "output",
                "content": format!("{} ", text.join(" ")), "metadata": {},
            });
            let mut frame = Vec::new();
            let event = EventName::Message(MessageType::Output);
            sse::write_frame(&mut frame, &format!("var-1:{number}"), event, message.to_string().as_bytes());
            frame
        })
        .collect();
    frames.chunks(joined).map(<[Vec<u8>]>::concat).collect()
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn per_event(sum: usize) -> f64 {
    sum as f64 / EVENTS as f64
}

/// CPU that this process has used, in nanoseconds.
fn cpu() -> usize {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    usize::try_from(time.tv_sec * 1_000_000_000 + time.tv_nsec).unwrap_or_default()
}

/// Resident memory, in bytes.
fn resident() -> io::Result<usize> {
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let pages: usize = statm.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    Ok(pages * rustix::param::page_size())
}
