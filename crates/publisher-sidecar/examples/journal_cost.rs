//! What the journal costs: time and CPU time per message, by size and by how many share a write.
//! The second half includes reading every message back and marking it safe.
//!
//! `cargo run --release -p runcast-publisher-sidecar --example journal_cost [folder]`
#![expect(clippy::print_stdout, reason = "it is for reading")]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use runcast_protocol::{Channel, RunId, Sequence, VariationId};
use runcast_publisher_sidecar::journal::{Journal, JournalError, Limits, Position};

const MESSAGES: usize = 400_000;

fn main() -> anyhow::Result<()> {
    let parent = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = parent.join(format!("journal-cost-{}", std::process::id()));
    println!("{MESSAGES} messages each, in {}", parent.display());
    println!("bytes  a write   µs/message  CPU µs/message   with read and safe: µs  CPU µs");
    for size in [100, 300, 2_000] {
        for batch in [1, 16, 64] {
            let (append, whole) = measure(&folder, size, batch)?;
            println!(
                "{size:>5}  {batch:>7}   {:>10.2}  {:>14.2}   {:>22.2}  {:>6.2}",
                append.wall, append.cpu, whole.wall, whole.cpu
            );
        }
    }
    Ok(())
}

/// Microseconds per message.
struct Cost {
    wall: f64,
    cpu: f64,
}

struct Meter {
    wall: Instant,
    cpu: Duration,
}

impl Meter {
    fn start() -> anyhow::Result<Self> {
        Ok(Self { wall: Instant::now(), cpu: cpu()? })
    }

    fn stop(&self) -> anyhow::Result<Cost> {
        let each = |time: Duration| time.as_secs_f64() * 1e6 / MESSAGES as f64;
        Ok(Cost { wall: each(self.wall.elapsed()), cpu: each(cpu()? - self.cpu) })
    }
}

/// CPU time of this, the only thread.
fn cpu() -> anyhow::Result<Duration> {
    let stat = std::fs::read_to_string("/proc/self/schedstat")?;
    let nanoseconds = stat.split(' ').next().unwrap_or_default().parse()?;
    Ok(Duration::from_nanos(nanoseconds))
}

/// What appending costs while the journal only grows, and what a message costs from its append until
/// its segment is deleted.
fn measure(folder: &Path, size: usize, batch: usize) -> anyhow::Result<(Cost, Cost)> {
    let line = vec![b'x'; size];
    let lines = vec![(Channel::Output, line.as_slice()); batch];

    let mut journal = open(folder)?;
    let meter = Meter::start()?;
    for _ in 0..MESSAGES / batch {
        append(&mut journal, &lines)?;
    }
    let append_cost = meter.stop()?;
    drop(journal);
    std::fs::remove_dir_all(folder)?;

    let mut journal = open(folder)?;
    journal.origin(Channel::Output, Sequence::NONE)?;
    let meter = Meter::start()?;
    let mut waiting = Vec::new();
    for turn in 1..=MESSAGES / batch {
        waiting.extend(append(&mut journal, &lines)?);
        // As after an append to Redis of some hundred messages.
        if waiting.len() >= 256 {
            for position in waiting.drain(..) {
                journal.read(position)?;
            }
            journal.safe(Channel::Output, (turn * batch) as u64)?;
        }
    }
    let whole_cost = meter.stop()?;
    drop(journal);
    std::fs::remove_dir_all(folder)?;
    Ok((append_cost, whole_cost))
}

fn append(journal: &mut Journal, lines: &[(Channel, &[u8])]) -> Result<Vec<Position>, JournalError> {
    if let [(channel, line)] = lines {
        return Ok(vec![journal.append(*channel, line)?.position]);
    }
    Ok(journal.append_all(lines)?.into_iter().map(|message| message.position).collect())
}

fn open(folder: &Path) -> anyhow::Result<Journal> {
    let limits = Limits { bytes: 4 << 30, ..Limits::default() };
    Ok(Journal::open(folder, limits, &RunId::new("run")?, &VariationId::new("var")?)?.0)
}
