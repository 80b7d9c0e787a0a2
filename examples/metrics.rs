//! Metrics of bandwidth files as CSV: a row for each file.
//!
//! `cargo run --example metrics FILE...`

#![expect(clippy::print_stdout, reason = "examples show what they do")]

use bw_file::{KilobytesPerSecond, Reader, Weights};

fn main() -> anyhow::Result<()> {
    println!("timestamp,relays,total_kbs,median_kbs,top_tenth,moved");
    let mut files: Vec<Weights> = Vec::new();
    for path in std::env::args_os().skip(1) {
        for document in Reader::from_path(&path)?.documents() {
            let document = document?;
            files.push(Weights::of(&document));
            let weights = &files[files.len() - 1];
            let mut sorted: Vec<KilobytesPerSecond> = weights.iter().map(|(_, bw)| bw).collect();
            sorted.sort_unstable();
            let tenth = sorted.iter().rev().take(sorted.len().div_ceil(10));
            let tenth: KilobytesPerSecond = tenth.copied().sum();
            // Relays whose weight is twice that of the file before, or half of it.
            let both = Weights::across(&files[files.len().saturating_sub(2)..]);
            println!(
                "{},{},{},{},{:.3},{}",
                document
                    .timestamp()
                    .value()
                    .map_or(0, bw_file::UnixTime::seconds),
                weights.relays(),
                weights.total().value(),
                weights.median().unwrap_or_default().value(),
                tenth.value() as f64 / weights.total().value().max(1) as f64,
                both.iter().filter(|relay| relay.spread() >= 2.0).count(),
            );
        }
    }
    Ok(())
}
