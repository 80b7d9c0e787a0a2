//! Reads a bandwidth file and lists its relays by weight.
//!
//! `cargo run --example read_bandwidth_file [FILE]`; without a file, a small
//! sample is read.

#![expect(clippy::print_stdout, reason = "examples show what they do")]

use anyhow::Context;
use bw_file::{Document, Severity};

const SAMPLE: &[u8] = b"1790000000\nversion=1.9.0\nsoftware=bwscan\n=====\n\
    bw=73 nick=slow node_id=68A483E05A2ABDCA6DA5A3EF8DB5177638A27F80\n\
    bw=8400 nick=fast node_id=ABABABABABABABABABABABABABABABABABABABAB\n\
    bw=1 nick=down node_id=CDCDCDCDCDCDCDCDCDCDCDCDCDCDCDCDCDCDCDCD unmeasured=1 vote=0\n";

fn main() -> anyhow::Result<()> {
    let bytes = match std::env::args_os().nth(1) {
        Some(path) => std::fs::read(&path).with_context(|| path.to_string_lossy().into_owned())?,
        None => SAMPLE.to_vec(),
    };
    let file = Document::parse(&bytes);

    // A header that is absent, and one that cannot be read, are not the same.
    let version = file.version().value();
    let software = file.header(b"software").unwrap_or(b"unknown software");
    println!(
        "format {}, by {}",
        version.map_or("1.0.0 (not stated)".to_owned(), |v| v.to_string()),
        String::from_utf8_lossy(software)
    );

    let mut relays: Vec<_> = file.relays().collect();
    relays.sort_by_key(|relay| std::cmp::Reverse(relay.bandwidth()));
    for relay in relays {
        let (Some(fingerprint), Some(weight)) = (relay.fingerprint(), relay.bandwidth()) else {
            continue; // reported below
        };
        let vote = if relay.is_voted() { "" } else { "  (vote=0)" };
        println!("{fingerprint} {:>10}{vote}", weight.value());
    }

    // What the specification says of it.
    let report = bw_file::spec(&file, None);
    if !report.is_clean_of(Severity::Warning) {
        println!("\nagainst the specification:\n{}", report.display(&file));
    }
    Ok(())
}
