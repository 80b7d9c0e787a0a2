//! `bwscan file stats`.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::PathBuf;

use bw_file::{Boundary, FormatVersion, HeaderFields, KilobytesPerSecond, UnixTime, Weights};
use clap::Args;
use serde::Serialize;

use super::Output;
use super::input::{Input, Reading, for_each_input};

#[derive(Args, Debug)]
pub(super) struct StatsArgs {
    /// Read these files or archives; - is standard input.
    #[arg(required = true)]
    paths: Vec<PathBuf>,
}

#[derive(Serialize)]
struct Stats<'a> {
    file: &'a str,
    timestamp: Option<UnixTime>,
    version: Option<FormatVersion>,
    software: Option<Cow<'a, str>>,
    /// Relay lines, of which a relay can have several.
    lines: usize,
    relays: usize,
    voted: usize,
    unmeasured: usize,
    total: KilobytesPerSecond,
    median: Option<KilobytesPerSecond>,
    largest: Option<KilobytesPerSecond>,
}

pub(super) fn run(args: &StatsArgs, output: &mut Output<'_>) -> anyhow::Result<bool> {
    let reading = Reading {
        boundary: Boundary::default(),
        anything: false,
    };
    for_each_input(&args.paths, reading, |input| {
        let stats = Stats::of(input);
        if output.json {
            output.json_line(&stats)
        } else {
            stats.show(output)
        }
    })?;
    Ok(true)
}

impl<'a> Stats<'a> {
    fn of(input: &Input<'a>) -> Self {
        let document = input.document;
        let weights = Weights::of(document);
        let relays = document.relays().filter_map(|relay| relay.fingerprint());
        let unmeasured = document
            .relays()
            .filter(|relay| relay.unmeasured().value() == Some(true))
            .filter_map(|relay| relay.fingerprint());
        Self {
            file: input.name,
            timestamp: document.timestamp().value(),
            version: document.version().value(),
            software: HeaderFields::new(document).software.value(),
            lines: document.relays().count(),
            relays: relays.collect::<BTreeSet<_>>().len(),
            voted: weights.relays(),
            unmeasured: unmeasured.collect::<BTreeSet<_>>().len(),
            total: weights.total(),
            median: weights.median(),
            largest: weights.largest(),
        }
    }

    fn show(&self, output: &mut Output<'_>) -> anyhow::Result<()> {
        let shown =
            |bw: Option<KilobytesPerSecond>| bw.map_or_else(|| "-".to_owned(), |bw| bw.to_string());
        let lines = if self.lines == self.relays {
            String::new()
        } else {
            format!(" on {} lines", self.lines)
        };
        writeln!(
            output.out,
            "{}: {} relays{lines}, {} voted, total {}, median {}, largest {}; {} unmeasured",
            self.file,
            self.relays,
            self.voted,
            self.total,
            shown(self.median),
            shown(self.largest),
            self.unmeasured,
        )?;
        Ok(())
    }
}
