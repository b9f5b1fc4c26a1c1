//! What compressing a stream costs and saves: bytes and CPU per event, memory.
//!
//! `cargo run --release -p runcast-sse-fanout --example compression`. Each line is 20,000 events of an agent's words,
//! `joined` at a time: in one passage, and in one of 16 KiB after the other, as those share it who come all the
//! time.

#![expect(clippy::print_stdout, reason = "a table for the terminal")]

use std::io;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use runcast_protocol::{EventName, MessageType, sse};
use runcast_sse_fanout::compression::Encoding;
use runcast_sse_fanout::compression::passage::Passage;
use runcast_sse_fanout::compression::stitch::Stitch;

const EVENTS: usize = 20_000;
const PASSAGES: usize = 500;
const WORDS: &str = "the agent reads a file and writes what it found into the plan so that the next step can begin \
    with it while tests run in the background and errors are told to whoever watches return value of function";

fn main() -> io::Result<()> {
    println!(
        "| encoding | events joined | bytes/event | of plain | CPU µs/event | short passages: bytes/event | CPU µs/event |"
    );
    println!("|---|---|---|---|---|---|---|");
    for joined in [1, 4, 16] {
        let writes = writes(joined);
        let plain: usize = writes.iter().map(Vec::len).sum();
        println!("| plain | {joined} | {:.0} | 1 | 0 | | |", per_event(plain));
        for encoding in Encoding::ALL {
            let (sent, spent) = compress(encoding, &writes, usize::MAX)?;
            let (short, more) = compress(encoding, &writes, 16 << 10)?;
            println!(
                "| {} | {joined} | {:.0} | {:.2} | {:.1} | {:.0} | {:.1} |",
                encoding.name(),
                per_event(sent),
                per_event(sent) / per_event(plain),
                per_event(spent) / 1e3,
                per_event(short),
                per_event(more) / 1e3,
            );
        }
    }
    println!();
    let writes = writes(1);
    for encoding in Encoding::ALL {
        let before = resident()?;
        let mut passages = Vec::with_capacity(PASSAGES);
        for _ in 0..PASSAGES {
            let mut passage = Passage::new(encoding)?;
            for write in &writes[..200] {
                passage.write(write)?;
            }
            passages.push(passage);
        }
        let each = (resident()? - before) / 1024 / PASSAGES;
        println!("{}: {each} KiB of memory for each passage that is being written", encoding.name());
    }
    Ok(())
}

/// Compresses all in passages of so many plain bytes: the bytes of the stream, and nanoseconds of CPU.
fn compress(encoding: Encoding, writes: &[Vec<u8>], length: usize) -> io::Result<(usize, usize)> {
    let begin = cpu();
    let (mut stitch, mut passage, mut sent) = (Stitch::new(encoding), Passage::new(encoding)?, 0);
    for write in writes {
        if passage.written() >= length {
            passage = Passage::new(encoding)?;
        }
        sent += stitch.add(&passage.write(write)?).len();
    }
    Ok((sent, cpu() - begin))
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
