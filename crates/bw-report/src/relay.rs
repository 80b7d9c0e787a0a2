//! The page of one relay: why is its weight as it is?

use bw_aggregate::{RelayAggregate, RelayClass};
use bw_file::Fingerprint;
use bw_results::{Position, StopReason};
use maud::{Markup, html};

use crate::advice::advice;
use crate::attempt::{Attempt, Measured};
use crate::directory::{Group, flags};
use crate::format::{counted, grouped, minute, percent, rate, size, span, utc, with_commas};
use crate::layout::Column::Text;
use crate::layout::{self, Depth, RELAYS, facts, relay_link, scrolling, table};
use crate::records::{Records, Relay};
use crate::site::Site;
use crate::{graph, history};

/// Members of a family shown at most.
const FAMILY: usize = 40;

/// Helpers of one measurement shown at most.
const HELPERS: usize = 4;

/// The page; an empty one for a relay that the report does not have.
pub(crate) fn page(site: &Site, fingerprint: &Fingerprint) -> String {
    let Some(relay) = site.aggregate(fingerprint) else {
        return String::new();
    };
    let records = site.records.relay(fingerprint);
    let name = match relay.nickname.as_str() {
        "" => fingerprint.to_string(),
        nickname => nickname.to_owned(),
    };
    let (attempts, charged) = records.map_or((0, 0), |records| (records.attempts, records.charged));
    let main = html! {
        h1 { (name) }
        p.identity { code { (fingerprint) } }
        p.lead { (site.facts.scaled.sentence(relay, site.standing(fingerprint), attempts, charged)) }
        (key_figures(site, relay))
        (why(site, relay, records))
        @if let Some(records) = records {
            (measurements(site, records))
            (failures(site, records))
        } @else {
            section { h2 { "Measurements" } p { "None in the days of this report." } }
        }
        (history::section(site, fingerprint))
        (identity(site, relay))
    };
    layout::page(site, &name, RELAYS, Depth::Folder, &main)
}

/// The class in words.
pub(crate) const fn class_name(class: RelayClass) -> &'static str {
    match class {
        RelayClass::GuardExit => "guard and exit",
        RelayClass::Guard => "guard",
        RelayClass::Exit => "exit",
        _ => "middle",
    }
}

fn key_figures(site: &Site, relay: &RelayAggregate) -> Markup {
    let fingerprint = &relay.fingerprint;
    let mut list: Vec<(&str, Markup)> = Vec::new();
    let weight = site.weight(fingerprint);
    list.push((
        "Weight",
        html! {
            @if let Some(weight) = weight { (grouped(weight)) small { " kB/s" } } @else { "none" }
        },
    ));
    if let Some(standing) = site.standing(fingerprint) {
        list.push((
            "Place",
            html! { (grouped(standing.rank)) small { " of " (grouped(standing.of)) } },
        ));
        list.push(("Share of all weights", html! { (percent(standing.share)) }));
    }
    if let Some(weight) = relay.consensus_weight {
        let unmeasured = relay.unmeasured == Some(true);
        list.push((
            "In the consensus",
            html! {
                (grouped(weight.value())) small { " kB/s" @if unmeasured { ", unmeasured" } }
            },
        ));
    }
    if let Some(file) = site.file() {
        list.push((
            "In the file in use",
            html! {
                @match file.weights.get(fingerprint) {
                    Some(weight) => { (grouped(weight.value())) small { " kB/s" } }
                    None => "none",
                }
            },
        ));
    }
    if let Some(statistics) = relay.statistics {
        list.push((
            "Measured, mean",
            html! { (rate(statistics.mean.value() as f64)) },
        ));
    }
    if let Some(descriptor) = relay.descriptor {
        let advertised = descriptor
            .observed
            .min(descriptor.average)
            .min(descriptor.burst);
        list.push(("Advertised", html! { (rate(advertised.value() as f64)) }));
    }
    if let Some(last) = relay.last_measured {
        let age = site.facts.now.since(last).as_secs();
        list.push(("Last measured", html! { (span(age)) small { " ago" } }));
    }
    facts(list)
}

/// From measurements to the weight, what bounds it, what to do.
fn why(site: &Site, relay: &RelayAggregate, records: Option<&Relay>) -> Markup {
    let scaled = &site.facts.scaled;
    let steps = scaled.steps(relay, site.standing(&relay.fingerprint), utc);
    let advice = advice(site, relay, records);
    html! {
        section {
            h2 { "Why this weight" }
            @if !advice.is_empty() {
                h3 { "What bounds it, and what its operator can do" }
                dl.advice {
                    @for advice in &advice {
                        dt { (advice.finding) }
                        dd { (advice.remedy) }
                    }
                }
            }
            @if !steps.is_empty() {
                (scrolling("Steps to the weight", &html! {
                    table.steps {
                        caption { "From measurements to the weight, step by step" }
                        tbody {
                            @for step in &steps {
                                tr { th scope="row" { (step.what) } td { (with_commas(&step.value)) } }
                            }
                        }
                    }
                }))
            }
            h3 { "Conditions for a weight" }
            ul.checks {
                @for check in relay.checks(scaled.network.method) {
                    li class=(match check.holds { Some(true) => "yes", Some(false) => "no", None => "open" }) {
                        b { (match check.holds { Some(true) => "yes", Some(false) => "no", None => "not reached" }) }
                        " " (check.condition)
                    }
                }
            }
        }
    }
}

fn measurements(site: &Site, relay: &Relay) -> Markup {
    if relay.measured.is_empty() {
        return html! {
            section { h2 { "Measurements" } p { "None in the days of this report." } }
        };
    }
    let rates: Vec<(u64, f64)> = relay
        .measured
        .iter()
        .filter_map(|attempt| Some((attempt.ended.as_secs(), attempt.rate()?)))
        .collect();
    let highest = rates.iter().map(|point| point.1).fold(0.0, f64::max);
    let label = format!(
        "Rates that count, and lower bounds, over time; the highest is {}",
        rate(highest)
    );
    let several = site.records.scanners.len() > 1;
    html! {
        section {
            h2 { "Measurements" }
            @if rates.len() > 2 {
                figure {
                    (graph::line(&rates, &label))
                    figcaption { (label) ". The scale begins at 0." }
                }
            }
            p.legend {
                "In the small graphs, each bar is a part of the transfer: "
                span.c { "counted" } ", " span.o { "warm-up or end, left out" } ", "
                span.t { "throttled by the scanner’s own link" } ". ± is half of the rate’s 95 % interval."
            }
            (scrolling("Measurements", &html! {
                table.measurements {
                    caption {
                        "The newest " (counted(relay.measured.len(), "measurement")) ", of "
                        (counted(relay.attempts, "attempt"))
                    }
                    thead { tr {
                        th scope="col" { "Ended (UTC)" }
                        th.number scope="col" { "Rate" }
                        th scope="col" { "Rate over time" }
                        th scope="col" { "As" }
                        th scope="col" { "Helped by" }
                        th.number scope="col" { "Bytes" }
                        th scope="col" { "Use" }
                        @if several { th scope="col" { "Scanner" } }
                    } }
                    tbody {
                        @for attempt in relay.measured.iter().rev() {
                            @if let Ok(measured) = &attempt.result {
                                (measurement(site, attempt, measured, several))
                            }
                        }
                    }
                }
            }))
        }
    }
}

fn measurement(site: &Site, attempt: &Attempt, measured: &Measured, several: bool) -> Markup {
    html! {
        tr {
            td.time { (minute(attempt.ended)) }
            td.number {
                @if let Some(found) = measured.rate { (rate(found)) } @else { "–" }
                @if let Some(half) = measured.half_width { small { " ± " (percent(f64::from(half))) } }
            }
            td { (graph::bars(&measured.graph)) }
            td { (position(attempt.position)) }
            td.words { (helpers(site, attempt, measured.offered)) }
            td.number { (size(attempt.bytes)) small { " in " (seconds(attempt)) } }
            td.words { (attempt.r#use.in_words(&attempt.verdict)) (notes(measured)) }
            @if several { td { (site.records.scanner(attempt.scanner)) } }
        }
    }
}

/// The time that it took in all, circuits included.
fn seconds(attempt: &Attempt) -> String {
    let took = attempt.ended.since(attempt.started).as_secs_f64();
    format!("{took:.1}\u{a0}s")
}

/// Remarks on a measurement.
fn notes(measured: &Measured) -> Markup {
    let mut notes = Vec::new();
    if measured.throttled > 0.0 {
        notes.push(format!(
            "{} throttled",
            percent(f64::from(measured.throttled))
        ));
    }
    if let Some(by) = measured.bound {
        notes.push(format!("bounded by the {by}"));
    }
    if measured.bursts {
        notes.push("a burst, of which its own limit sustains this rate".to_owned());
    } else if measured.stop == Some(StopReason::TimeLimit) {
        notes.push("ended by the time limit".to_owned());
    }
    html! { @if !notes.is_empty() { small { "; " (notes.join("; ")) } } }
}

const fn position(position: Position) -> &'static str {
    match position {
        Position::Exit => "exit",
        _ => "entry",
    }
}

fn helpers(site: &Site, attempt: &Attempt, offered: Option<u64>) -> Markup {
    html! {
        @for (index, helper) in attempt.helpers.iter().take(HELPERS).enumerate() {
            @if index > 0 { ", " }
            (relay_link(site, helper, Depth::Folder))
        }
        @if attempt.helpers.len() > HELPERS { " and " (attempt.helpers.len() - HELPERS) " more" }
        @if let Some(offered) = offered { small { " (" (rate(offered as f64)) " expected)" } }
    }
}

fn failures(site: &Site, relay: &Relay) -> Markup {
    if relay.failed.is_empty() {
        return html! {};
    }
    let records: &Records = &site.records;
    html! {
        section {
            h2 { "Failures" }
            (table(
                "Failures",
                &format!("The newest {}", counted(relay.failed.len(), "failed attempt")),
                &[
                    Text("Ended (UTC)"),
                    Text("Stage"),
                    Text("What failed"),
                    Text("Laid to"),
                    Text("As"),
                    Text("Helped by"),
                    Text("Destination"),
                    Text("Use"),
                ],
                &html! {
                    @for attempt in relay.failed.iter().rev() {
                        @if let Err(failed) = &attempt.result {
                            tr {
                                td.time { (minute(attempt.ended)) }
                                td { (failed.stage) }
                                td.words { (failed.kind.as_str().replace('_', " ")) ": " (failed.detail) }
                                td { (failed.blame) }
                                td { (position(attempt.position)) }
                                td { (helpers(site, attempt, None)) }
                                td.url { (records.destination(attempt.destination)) }
                                td { (attempt.r#use.in_words(&attempt.verdict)) }
                            }
                        }
                    }
                },
            ))
        }
    }
}

/// Its identity, by the consensus.
fn identity(site: &Site, relay: &RelayAggregate) -> Markup {
    let network = site.network_facts(&relay.fingerprint);
    let family = site.families.members(&relay.fingerprint);
    let group = site.families.group(&relay.fingerprint);
    html! {
        section {
            h2 { "Identity" }
            dl.plain {
                dt { "Fingerprint" } dd { code { (relay.fingerprint) } }
                @if let Some(key) = relay.ed25519 { dt { "Ed25519 key" } dd { code { (key) } } }
                @if let Some(network) = network {
                    @if let Some(address) = network.address { dt { "Address" } dd { (address) } }
                    @if let Some(country) = network.country { dt { "Country, by GeoIP" } dd { (country) } }
                    @if let Some(version) = &network.version { dt { "Version" } dd { (version) } }
                    dt { "Flags" } dd { (flags(network.flags)) }
                    dt { "Class" } dd { (class_name(RelayClass::from(network.flags))) }
                } @else {
                    dt { "Consensus" } dd { "The newest consensus does not list it." }
                }
                @if let Some(descriptor) = relay.descriptor {
                    dt { "Descriptor" }
                    dd {
                        "published " (minute(descriptor.published)) ": observed "
                        (rate(descriptor.observed.value() as f64)) ", rate "
                        (rate(descriptor.average.value() as f64)) ", burst "
                        (rate(descriptor.burst.value() as f64))
                    }
                }
                @if !family.is_empty() {
                    dt { "Family" }
                    dd {
                        @for (index, member) in family.iter().take(FAMILY).enumerate() {
                            @if index > 0 { ", " }
                            (relay_link(site, member, Depth::Folder))
                        }
                        @if family.len() > FAMILY { " and " (family.len() - FAMILY) " more" }
                        @if let Some(group) = group {
                            " – " a href=(format!("../{}", Group::family(&group).path())) { "all of the family" }
                        }
                    }
                }
            }
        }
    }
}
