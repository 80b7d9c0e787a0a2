//! The first page: is all well?

use std::collections::BTreeMap;

use bw_aggregate::Answer;
use maud::{Markup, html};

use crate::bandwidth_file::Change;
use crate::format::{factor, grouped, minute, percent, rate, share, size, span};
use crate::layout::Column::{Number, Text};
use crate::layout::{self, Depth, OVERVIEW, facts, relay_link, table};
use crate::round::Round;
use crate::site::Site;

/// Rows of gains and losses, and of rounds.
const ROWS: usize = 10;

/// Seconds after which a bandwidth file is old: tor ignores one of three days, and
/// scanners are to write one each hour.
const OLD_FILE: u64 = 3 * 3600;
const DEAD_FILE: u64 = 3 * 24 * 3600;

/// Seconds after which the newest measurement is old: generate's own limit.
const OLD_MEASUREMENT: u64 = 36 * 3600;

/// Shares of failures of which somebody should know.
const MANY_FAILURES: f64 = 0.2;

/// A share of measurements without a rate that says that most of the work is for nothing.
const MANY_REPEATED: f64 = 0.5;

/// A finding on the whole, the worst first.
struct Finding {
    level: Level,
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Bad,
    Doubtful,
    Good,
}

impl Level {
    const fn class(self) -> &'static str {
        match self {
            Self::Bad => "bad",
            Self::Doubtful => "doubtful",
            Self::Good => "good",
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Bad => "Wrong",
            Self::Doubtful => "Look at this",
            Self::Good => "Well",
        }
    }
}

pub(crate) fn page(site: &Site) -> String {
    let findings = findings(site);
    let worst = findings
        .first()
        .map_or(Level::Good, |finding| finding.level);
    let main = html! {
        h1 { "Overview" }
        p.lead {
            @match worst {
                Level::Good => "All is well.",
                Level::Doubtful => "Mostly well; something wants a look.",
                Level::Bad => "Something is wrong.",
            }
        }
        ul.findings {
            @for finding in &findings {
                li class=(finding.level.class()) { b { (finding.level.word()) } " " (finding.text) }
            }
        }
        (key_figures(site))
        (rounds(site))
        (changes(site))
        (failures(site))
        (destinations(site))
        (without_weight(site))
        (scanners(site))
    };
    layout::page(site, "Overview", OVERVIEW, Depth::Top, &main)
}

fn findings(site: &Site) -> Vec<Finding> {
    let mut all = vec![
        file_finding(site),
        coverage_finding(site),
        measured_finding(site),
    ];
    all.push(failure_finding(site));
    all.extend(repeated_finding(site));
    for scanner in &site.facts.scanners {
        if let Some(comparison) = scanner.comparison.filter(|comparison| comparison.disagrees) {
            all.push(Finding {
                level: Level::Doubtful,
                text: format!(
                    "Scanner {} disagrees with the others: its rates are {:.2} times theirs.",
                    scanner.scanner, comparison.factor
                ),
            });
        }
    }
    all.sort_by_key(|finding| finding.level);
    all
}

fn file_finding(site: &Site) -> Finding {
    let Some(file) = site.file() else {
        return Finding {
            level: Level::Doubtful,
            text: "There is no bandwidth file yet.".to_owned(),
        };
    };
    let age = file.time().map(|time| site.facts.now.since(time).as_secs());
    let (level, text) = match age {
        None => (
            Level::Bad,
            format!("The bandwidth file {} has no time.", file.name),
        ),
        Some(age) if age > DEAD_FILE => (
            Level::Bad,
            format!(
                "The bandwidth file is {} old: authorities do not vote with it.",
                span(age)
            ),
        ),
        Some(age) if age > OLD_FILE => (
            Level::Doubtful,
            format!("The bandwidth file is {} old.", span(age)),
        ),
        Some(age) => (
            Level::Good,
            format!("The bandwidth file is {} old.", span(age)),
        ),
    };
    Finding { level, text }
}

fn coverage_finding(site: &Site) -> Finding {
    let network = &site.facts.scaled.network;
    let covered = share(network.eligible, network.consensus_relays);
    Finding {
        level: if network.under_minimum {
            Level::Bad
        } else {
            Level::Good
        },
        text: format!(
            "{} of {} relays of the consensus have a weight ({}); {} are needed for a vote.",
            grouped(network.eligible),
            grouped(network.consensus_relays),
            percent(covered),
            grouped(network.minimum)
        ),
    }
}

fn measured_finding(site: &Site) -> Finding {
    let newest = site
        .facts
        .aggregates
        .relays
        .iter()
        .filter_map(|relay| relay.last_measured)
        .max();
    match newest.map(|newest| site.facts.now.since(newest).as_secs()) {
        None => Finding {
            level: Level::Bad,
            text: "Nothing was measured.".to_owned(),
        },
        Some(age) => Finding {
            level: if age > OLD_MEASUREMENT {
                Level::Bad
            } else {
                Level::Good
            },
            text: format!("The newest measurement is {} old.", span(age)),
        },
    }
}

fn failure_finding(site: &Site) -> Finding {
    let attempts: u64 = site.records.verdicts.values().sum();
    let failed: u64 = site.records.failures.values().sum();
    let failed_share = share(failed, attempts);
    Finding {
        level: if failed_share > MANY_FAILURES {
            Level::Doubtful
        } else {
            Level::Good
        },
        text: format!(
            "{} of {} attempts failed ({}).",
            grouped(failed),
            grouped(attempts),
            percent(failed_share)
        ),
    }
}

/// The measurements that something but the relay bounded; none of none.
fn repeated_finding(site: &Site) -> Option<Finding> {
    let verdicts = || site.records.verdicts.iter();
    let completed = verdicts().filter(|((kind, _), _)| !matches!(*kind, "charged" | "excused"));
    let completed: u64 = completed.map(|(_, count)| count).sum();
    // One that a better one takes the place of is no waste.
    let repeated = verdicts().filter_map(|((kind, reason), &count)| {
        let reason = reason.filter(|reason| *kind == "remeasure" && *reason != "superseded");
        Some((reason?, count))
    });
    let repeated: Vec<(&str, u64)> = repeated.collect();
    let (reason, _) = repeated.iter().max_by_key(|(_, count)| count)?;
    let count = repeated.iter().map(|(_, count)| count).sum();
    let part = share(count, completed);
    Some(Finding {
        level: if part > MANY_REPEATED {
            Level::Doubtful
        } else {
            Level::Good
        },
        text: format!(
            "{} of {} measurements gave no rate ({}), most often as {}.",
            grouped(count),
            grouped(completed),
            percent(part),
            reason.replace('_', " ")
        ),
    })
}

fn key_figures(site: &Site) -> Markup {
    let network = &site.facts.scaled.network;
    let mut list: Vec<(&str, Markup)> = Vec::new();
    if let Some(file) = site.file() {
        list.push((
            "Relays in the file",
            html! { (grouped(file.weights.relays() as u64)) },
        ));
        list.push((
            "Sum of its weights",
            html! { (rate(file.weights.total().to_bytes().value() as f64)) },
        ));
        list.push(("Its size", html! { (size(file.size)) }));
    }
    list.push((
        "With a weight now",
        html! {
            (grouped(network.eligible)) small { " of " (grouped(network.consensus_relays)) }
        },
    ));
    list.push(("Mean of measured rates", html! { (rate(network.mean)) }));
    list.push(("Formula", html! { (network.method.as_str()) }));
    let last = site.facts.rounds.iter().find(|round| round.ended.is_some());
    if let Some(round) = last {
        list.push((
            "Last round took",
            html! { @if let Some(seconds) = round.seconds() { (span(seconds)) } },
        ));
        list.push(("… and moved", html! { (size(round.bytes)) }));
    }
    html! {
        (facts(list))
        @if let Some(file) = site.file() {
            p.note {
                "The file in use is " code { (file.name) }
                @if let Some(time) = file.time() { ", of " (minute(time)) " UTC" }
                @if let Some(software) = &file.software { ", by " (software) }
                ". Its numbers are as it was written; all others are what the records say now."
            }
        }
    }
}

fn rounds(site: &Site) -> Markup {
    html! {
        section {
            h2 { "Rounds" }
            @if site.facts.rounds.is_empty() {
                p { "There is none yet." }
            } @else {
                (table(
                    "Rounds",
                    "The newest rounds over the relays",
                    &[
                        Text("Began (UTC)"),
                        Text("Scanner"),
                        Text("State"),
                        Number("Relays"),
                        Number("Measured"),
                        Number("Failed"),
                        Number("Attempts"),
                        Number("Time"),
                        Number("Bytes"),
                        Number("Mean link use"),
                    ],
                    &html! {
                        @for round in site.facts.rounds.iter().take(ROWS) { (round_row(round)) }
                    },
                ))
            }
        }
    }
}

fn round_row(round: &Round) -> Markup {
    let seconds = round.seconds();
    html! {
        tr {
            th.time scope="row" { (minute(round.started)) }
            td { (round.scanner) }
            td { (round.state()) }
            td.number { (grouped(round.targets)) }
            td.number { (grouped(round.measured)) }
            td.number { (grouped(round.failed)) }
            td.number { (grouped(round.outcomes)) }
            td.number { @if let Some(seconds) = seconds { (span(seconds)) } }
            td.number { (size(round.bytes)) }
            td.number {
                @if let Some(seconds) = seconds.filter(|&seconds| seconds > 0) {
                    (rate(round.bytes as f64 / seconds as f64))
                }
            }
        }
    }
}

fn changes(site: &Site) -> Markup {
    let (Some(changes), [.., before, _]) = (&site.changes, site.facts.files.as_slice()) else {
        return html! {
            section {
                h2 { "Since the last file" }
                p { "There is no file before the one in use to compare it with." }
            }
        };
    };
    let gains: Vec<&Change> = changes
        .sorted
        .iter()
        .rev()
        .take(ROWS)
        .filter(|change| change.difference() > 0)
        .collect();
    let losses: Vec<&Change> = changes
        .sorted
        .iter()
        .take(ROWS)
        .filter(|change| change.difference() < 0)
        .collect();
    html! {
        section {
            h2 { "Since the last file" }
            p {
                "Compared with " code { (before.name) } ": " (grouped(changes.gained)) " relays are new, "
                (grouped(changes.lost)) " are gone, and of " (grouped(changes.common)) " others "
                (grouped(changes.moved)) " moved by a factor of 1.5 or more."
            }
            div.columns {
                (change_table(site, "Largest gains", &gains))
                (change_table(site, "Largest losses", &losses))
            }
        }
    }
}

fn change_table(site: &Site, caption: &str, changes: &[&Change]) -> Markup {
    table(
        caption,
        caption,
        &[
            Text("Relay"),
            Number("Before, kB/s"),
            Number("Now"),
            Number("Factor"),
        ],
        &html! {
            @if changes.is_empty() { tr { td colspan="4" { "none" } } }
            @for change in changes {
                tr {
                    th scope="row" { (relay_link(site, &change.relay, Depth::Top)) }
                    td.number { (grouped(change.before)) }
                    td.number { (grouped(change.after)) }
                    td.number { (factor(change.after as f64 / change.before as f64)) }
                }
            }
        },
    )
}

fn failures(site: &Site) -> Markup {
    let failures = &site.records.failures;
    if failures.is_empty() {
        return html! { section { h2 { "Failures" } p { "Nothing failed." } } };
    }
    let mut rows: Vec<_> = failures.iter().collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.1));
    let all: u64 = failures.values().sum();
    html! {
        section {
            h2 { "Failures" }
            (table(
                "Failures",
                "Failed attempts by stage and by whom they are laid to",
                &[
                    Text("Stage"),
                    Text("Laid to"),
                    Text("Verdict"),
                    Number("Attempts"),
                    Number("Share"),
                ],
                &html! {
                    @for ((stage, blame, charged), count) in rows.into_iter().take(2 * ROWS) {
                        tr {
                            th scope="row" { (stage) }
                            td { (blame) }
                            td { @if *charged { "charged to the relay" } @else { "excused" } }
                            td.number { (grouped(*count)) }
                            td.number { (percent(share(*count, all))) }
                        }
                    }
                },
            ))
        }
    }
}

fn destinations(site: &Site) -> Markup {
    let mut rows: Vec<_> = site
        .records
        .destinations
        .iter()
        .filter(|(name, _)| !name.is_empty())
        .collect();
    rows.sort_by_key(|(_, destination)| std::cmp::Reverse(destination.bytes));
    html! {
        @if !rows.is_empty() {
            section {
                h2 { "Destinations" }
                (table(
                    "Destinations",
                    "What was measured against",
                    &[
                        Text("Web server"),
                        Number("Measurements"),
                        Number("Failures"),
                        Number("Laid to it"),
                        Number("Bytes"),
                        Text("Last used (UTC)"),
                    ],
                    &html! {
                        @for (name, destination) in rows.into_iter().take(2 * ROWS) {
                            tr {
                                th.url scope="row" { (name) }
                                td.number { (grouped(destination.measured)) }
                                td.number { (grouped(destination.failed)) }
                                td.number { (grouped(destination.blamed)) }
                                td.number { (size(destination.bytes)) }
                                td.time { (minute(destination.last)) }
                            }
                        }
                    },
                ))
            }
        }
    }
}

fn without_weight(site: &Site) -> Markup {
    let mut reasons: BTreeMap<&str, (u64, String)> = BTreeMap::new();
    for relay in &site.facts.scaled.relays {
        if let Answer::Excluded(reason) = &relay.answer {
            let entry = reasons
                .entry(reason.as_str())
                .or_insert_with(|| (0, reason.to_string()));
            entry.0 += 1;
        }
    }
    html! {
        @if !reasons.is_empty() {
            section {
                h2 { "Relays without a weight" }
                (table(
                    "Relays without a weight",
                    "Why they have none, with an example",
                    &[
                        Text("Reason"),
                        Number("Relays"),
                        Text("For example"),
                    ],
                    &html! {
                        @for (reason, (count, example)) in &reasons {
                            tr {
                                th scope="row" { (reason.replace('_', " ")) }
                                td.number { (grouped(*count)) }
                                td { (example) }
                            }
                        }
                    },
                ))
            }
        }
    }
}

fn scanners(site: &Site) -> Markup {
    html! {
        @if site.facts.scanners.len() > 1 {
            section {
                h2 { "Scanners" }
                (table(
                    "Scanners",
                    "What each contributed, and how its rates compare with the others’",
                    &[
                        Text("Scanner"),
                        Number("Measurements"),
                        Number("Failures"),
                        Number("Relays"),
                        Number("Factor"),
                    ],
                    &html! {
                        @for scanner in &site.facts.scanners {
                            tr {
                                th scope="row" { (scanner.scanner) }
                                td.number { (grouped(scanner.measured)) }
                                td.number { (grouped(scanner.failed)) }
                                td.number { (grouped(scanner.relays)) }
                                td.number {
                                    @if let Some(comparison) = scanner.comparison { (factor(comparison.factor)) }
                                }
                            }
                        }
                    },
                ))
            }
        }
    }
}
