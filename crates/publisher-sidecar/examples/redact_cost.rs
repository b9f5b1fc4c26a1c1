//! What looking for secrets costs: CPU time per megabyte, with and without. Run it with `--release`.
#![expect(clippy::print_stdout, reason = "it is for the terminal")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use runcast_publisher_sidecar::redact::{Known, Rules, Stream, builtin_rules};

const MEGABYTE: usize = 1 << 20;
const ROUNDS: usize = 20;

fn main() {
    let names = runcast_publisher_sidecar::redact::NAMES.map(str::to_owned);
    let known = ["sk-test-key-of-the-agent", "another long value"].map(|value| Known::new("A_TOKEN", value));
    let began = Instant::now();
    let known: Vec<_> = known.into_iter().flatten().collect();
    let rules = Arc::new(Rules::new(&builtin_rules(&names), &known).expect("they compile"));
    println!(
        "compiling the rules: {:.1} ms, {} KiB",
        began.elapsed().as_secs_f64() * 1e3,
        rules.memory() >> 10
    );
    let off = Arc::new(Rules::new(&[], &[]).expect("nothing"));
    let prose =
        "The agent reads src/main.rs, runs `cargo test`, and then says what it found: 12 passed; 0 failed.\n";
    let misses = "AKIA123 ghp_abc eyJ-eyJhbGci. sk-learn xoxb-1 http://h:80/ password: x Bearer tok AIzaSy -----BEGIN \n";
    let secrets = "AKIAIOSFODNN7EXAMPLE ghp_abcdefghijklmnopqrstuvwxyz0123456789 PASSWORD=hunter2 \n";
    for (what, text) in
        [("ordinary text", prose), ("near-misses", misses), ("secrets only", secrets), ("eyJ-eyJ-…", "eyJ-")]
    {
        let text: Vec<u8> = text.bytes().cycle().take(MEGABYTE).collect();
        for chunk in [8, 32 << 10] {
            let (with, without) = (cost(&rules, &text, chunk), cost(&off, &text, chunk));
            println!("{what}, pieces of {chunk} bytes: {with:.2} ms/MB with, {without:.2} ms/MB without");
        }
    }
}

/// Milliseconds for a megabyte, the least of some rounds.
fn cost(rules: &Arc<Rules>, text: &[u8], chunk: usize) -> f64 {
    let round = || {
        let mut stream = Stream::new(rules.clone());
        let began = Instant::now();
        for piece in text.chunks(chunk) {
            black_box(stream.push(piece));
        }
        black_box(stream.finish());
        began.elapsed().as_secs_f64() * 1e3
    };
    (0..ROUNDS).map(|_| round()).fold(f64::INFINITY, f64::min)
}
