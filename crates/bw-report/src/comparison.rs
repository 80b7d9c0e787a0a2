//! Several bandwidth files side by side.

use std::cmp::Reverse;

use bw_file::{RelayAcross, Weights};
use maud::{Markup, html};

use crate::bandwidth_file::BandwidthFile;
use crate::format::{counted, factor, grouped, minute, percent, quantile, rate, share};
use crate::layout::Column::{self, Number, Text};
use crate::layout::{self, COMPARISON, Depth, relay_link, table};
use crate::site::Site;

/// The data of the comparison.
pub(crate) const DATA: &str = "comparison.csv";

/// Relays shown on which the files disagree most, and that one lacks.
const ROWS: usize = 40;

/// The comparison of files.
#[derive(Debug)]
pub(crate) struct Comparison {
    names: Vec<String>,
    /// Each relay that some file votes for, those that they disagree on most first.
    relays: Vec<RelayAcross>,
    files: Vec<Figures>,
}

/// One file beside the others.
#[derive(Debug)]
struct Figures {
    /// Relays that only this file lacks.
    lacks: u64,
    /// Relays that only this file has.
    alone: u64,
    /// The quartiles of its weights over the files' medians.
    factors: Option<[f64; 3]>,
}

impl Comparison {
    /// The comparison of two files or more.
    pub(crate) fn of(files: &[BandwidthFile]) -> Option<Self> {
        if files.len() < 2 {
            return None;
        }
        let weights: Vec<Weights> = files.iter().map(|file| file.weights.clone()).collect();
        let mut relays = Weights::across(&weights);
        let figures = (0..files.len())
            .map(|file| Figures::new(&relays, file))
            .collect();
        // Of equal factors the largest relay matters most.
        relays.sort_by(|one, other| {
            let (spread, median) = (
                other.spread().total_cmp(&one.spread()),
                other.median.cmp(&one.median),
            );
            spread.then(median).then(one.relay.cmp(&other.relay))
        });
        Some(Self {
            names: files.iter().map(|file| file.name.clone()).collect(),
            relays,
            files: figures,
        })
    }

    /// The largest relays that some file has no weight for.
    fn lacking(&self) -> Vec<&RelayAcross> {
        let relays = self.relays.iter();
        let mut lacking: Vec<_> = relays
            .filter(|relay| relay.weights.iter().any(Option::is_none))
            .collect();
        lacking.sort_by_key(|relay| Reverse(relay.median));
        lacking.truncate(ROWS);
        lacking
    }

    /// A table of relays with their weights.
    fn rows(&self, site: &Site, name: &str, relays: &[&RelayAcross]) -> Markup {
        if relays.is_empty() {
            return html! { p { "There are none." } };
        }
        table(
            name,
            "Weights in kB/s; the spread is the factor of the farthest file from the median",
            &spread_columns(&self.names),
            &html! {
                @for relay in relays {
                    tr {
                        th scope="row" { (relay_link(site, &relay.relay, Depth::Top)) }
                        @for weight in &relay.weights {
                            td.number { @if let Some(weight) = weight { (grouped(weight.value())) } @else { "–" } }
                        }
                        td.number { (factor(relay.spread())) }
                    }
                }
            },
        )
    }

    /// One line a relay: its weight in each file.
    pub(crate) fn csv(&self) -> String {
        let head = ["fingerprint"]
            .into_iter()
            .chain(self.names.iter().map(String::as_str));
        let head: Vec<String> = head
            .chain(["median", "spread"])
            .map(str::to_owned)
            .collect();
        let row = |relay: &RelayAcross| {
            let weights = relay.weights.iter();
            let weights =
                weights.map(|one| one.map_or_else(String::new, |one| one.value().to_string()));
            let figures = [relay.median.value().to_string(), relay.spread().to_string()];
            let row = [relay.relay.to_string()].into_iter().chain(weights);
            row.chain(figures).collect()
        };
        let mut out = csv::Writer::from_writer(Vec::new());
        for row in [head].into_iter().chain(self.relays.iter().map(row)) {
            // A vector takes all that is written.
            let _ = out.write_record(row);
        }
        let bytes = out.into_inner().unwrap_or_default();
        String::from_utf8(bytes).unwrap_or_default()
    }
}

impl Figures {
    fn new(relays: &[RelayAcross], file: usize) -> Self {
        let has = |relay: &&RelayAcross| relay.weights.get(file).copied().flatten().is_some();
        let count = |relay: &RelayAcross| relay.weights.iter().flatten().count();
        let all = relays.first().map_or(0, |relay| relay.weights.len());
        let lacks = relays
            .iter()
            .filter(|relay| !has(relay) && count(relay) + 1 == all);
        let alone = relays
            .iter()
            .filter(|relay| has(relay) && count(relay) == 1);
        let shared = relays.iter().filter(|relay| count(relay) > 1);
        let mut factors: Vec<f64> = shared
            .filter_map(|relay| relay.factors().get(file).copied().flatten())
            .collect();
        factors.sort_unstable_by(f64::total_cmp);
        Self {
            lacks: lacks.count() as u64,
            alone: alone.count() as u64,
            factors: (!factors.is_empty())
                .then(|| [0.25, 0.5, 0.75].map(|at| quantile(&factors, at).unwrap_or(1.0))),
        }
    }
}

/// A column for each file, between the relay and its spread.
fn spread_columns(files: &[String]) -> Vec<Column<'_>> {
    let files = files.iter().map(|name| Number(name));
    let files = [Text("Relay")].into_iter().chain(files);
    files.chain([Number("Spread")]).collect()
}

pub(crate) fn page(site: &Site) -> String {
    let Some(comparison) = &site.comparison else {
        return String::new();
    };
    let files = site.compared();
    let what = if site.facts.compared.is_empty() {
        "of our own bandwidth files, of different days,"
    } else {
        "bandwidth files and votes"
    };
    let total = comparison.relays.len() as u64;
    let main = html! {
        h1 { "Comparison" }
        p.lead { (files.len()) " " (what) " have weights for " (counted(comparison.relays.len(), "relay")) " together." }
        (table(
            "Files",
            "The files; the factor is a relay’s weight over that in all files, as median and middle half of the relays",
            &[
                Text("File"),
                Text("Made (UTC)"),
                Text("Software"),
                Number("Relays"),
                Number("Of all"),
                Number("Sum"),
                Number("Factor"),
                Number("Middle half"),
                Number("Lacks"),
                Number("Lacks alone"),
                Number("Has alone"),
            ],
            &html! {
                @for (file, figures) in files.iter().zip(&comparison.files) {
                    tr {
                        th scope="row" { (file.name) }
                        td.time { @if let Some(time) = file.time() { (minute(time)) } }
                        td { @if let Some(software) = &file.software { (software) } }
                        td.number { (grouped(file.weights.relays() as u64)) }
                        td.number { (percent(share(file.weights.relays() as u64, total))) }
                        td.number { (rate(file.weights.total().to_bytes().value() as f64)) }
                        @if let Some([low, median, high]) = figures.factors {
                            td.number { (factor(median)) }
                            td.number { (factor(low)) " to " (factor(high)) }
                        } @else { td {} td {} }
                        td.number { (grouped(total - file.weights.relays() as u64)) }
                        td.number { (grouped(figures.lacks)) }
                        td.number { (grouped(figures.alone)) }
                    }
                }
            },
        ))
        h2 { "Relays that they disagree on most" }
        @let disagreed = comparison.relays.iter().take(ROWS).filter(|relay| relay.spread() > 1.0);
        (comparison.rows(site, "Disagreement", &disagreed.collect::<Vec<_>>()))
        h2 { "The largest relays that a file lacks" }
        (comparison.rows(site, "Unmeasured", &comparison.lacking()))
        p { "All relays: " a href=(DATA) { (DATA) } }
    };
    layout::page(site, "Comparison", COMPARISON, Depth::Top, &main)
}
