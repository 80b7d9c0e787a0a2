//! The round that runs, as a page: complete without a script, moved by one.

use bw_watch::text::{clock, rate, size, time};
use bw_watch::{Rate, State};
use maud::{Markup, html};
use serde_json::{Value, json};

/// The script that moves the page.
pub(crate) const SCRIPT: &str = include_str!("live.js");

/// Rows of each table.
const ROWS: usize = 100;
/// Seconds of the link's use that are drawn.
const SECONDS: usize = 300;

/// The state as JSON, with the reason why no events come, if none do.
pub(crate) fn json(state: &State, lost: Option<&str>) -> Value {
    json!({ "lost": lost, "state": state })
}

/// The content of the page. What changes is in elements with `data-live` and an `id`.
pub(crate) fn main(state: &State, lost: Option<&str>) -> String {
    let markup = html! {
        h1 { "The running round" }
        div #live-head data-live { (head(state, lost)) }
        section { h2 { "Link" } div #live-link data-live { (link(state)) } }
        section { h2 { "Measuring now" } (table("live-running", "Measurements under way",
            &["Relay", "As", "Rate", "±", "Bytes", "Helpers"], &running(state))) }
        section { h2 { "Failures" } (table("live-causes", "Failures by stage and blame",
            &["Stage", "Laid to", "Failures"], &causes(state))) }
        section { h2 { "Destinations" } (table("live-destinations", "Destinations of this process",
            &["Destination", "Measured", "Failed", "Bytes", "State"], &destinations(state))) }
        section { h2 { "Helpers" } (table("live-helpers", "Helpers of measurements under way",
            &["Helper", "Measurements", "Rate"], &helpers(state))) }
        section { h2 { "Last outcomes" } (table("live-recent", "The last outcomes, the newest first",
            &["Time (UTC)", "Relay", "Outcome"], &recent(state))) }
    };
    markup.into_string()
}

fn table(id: &str, caption: &str, columns: &[&str], rows: &Markup) -> Markup {
    html! {
        div.scroll role="region" aria-label=(caption) tabindex="0" {
            table {
                caption { (caption) }
                thead { tr { @for column in columns { th scope="col" { (column) } } } }
                tbody id=(id) data-live { (rows) }
            }
        }
    }
}

fn head(state: &State, lost: Option<&str>) -> Markup {
    let round = &state.round;
    let share = round.done as f64 / round.targets.max(1) as f64 * 100.0;
    html! {
        p.lead {
            @if let Some(reason) = lost {
                (capital(reason)) ". This page waits for the next one."
            } @else {
                (round.done) " of " (round.targets) " relays are done (" (format!("{share:.0}")) " %), "
                (round.failed) " of them failed. " (state.running.len()) " are being measured, "
                (state.queued()) " wait. "
                @if let Some(left) = state.left() { "The rest takes " (time(left)) " at this pace." }
            }
        }
        @if !state.message.is_empty() { p { (state.message) } }
        progress max=(round.targets.max(1)) value=(round.done) aria-label="Relays that are done" {}
    }
}

/// The link's use over time, as bars.
fn link(state: &State) -> Markup {
    let now = state.link_use(5);
    let over = state.seconds.len().saturating_sub(1);
    let from = over.saturating_sub(SECONDS);
    let most = state.seconds.iter().copied().max().unwrap_or(0);
    let top = most.max(state.link).max(1) as f64;
    let text = match state.link {
        0 => rate(now),
        limit => format!("{} of {}", rate(now), rate(limit as f64)),
    };
    html! {
        p { (text) }
        svg.link viewBox=(format!("0 0 {SECONDS} 60")) role="img" preserveAspectRatio="none"
            aria-label=(format!("The link's use over the last {} s, now {text}", over - from)) {
            @for (index, bytes) in state.seconds.range(from..over).enumerate() {
                @let height = *bytes as f64 / top * 60.0;
                @let x = SECONDS - (over - from) + index;
                rect x=(x) y=(format!("{:.1}", 60.0 - height)) width="1"
                    height=(format!("{height:.1}")) {}
            }
        }
    }
}

fn running(state: &State) -> Markup {
    let mut rows: Vec<_> = state.running.iter().collect();
    rows.sort_by(|(_, a), (_, b)| {
        let rate = |rate: Option<Rate>| rate.map_or(0.0, |rate| rate.bandwidth);
        rate(b.rate()).total_cmp(&rate(a.rate()))
    });
    html! {
        @for (relay, running) in rows.into_iter().take(ROWS) {
            tr {
                td { a href=(format!("relay/{relay}.html")) title=(relay) { (named(&running.nickname, relay)) } }
                td { (running.position) }
                @if let Some(now) = running.rate() {
                    td.number { (rate(now.bandwidth)) }
                    td.number { @if let Some(width) = now.half_width { (rate(width)) } }
                } @else {
                    td { "circuits open" }
                    td {}
                }
                td.number { (size(running.bytes as f64)) }
                td {
                    @for (index, helper) in running.helpers.iter().enumerate() {
                        @if index > 0 { ", " }
                        (named(&helper.nickname, &helper.fingerprint))
                    }
                }
            }
        }
    }
}

fn causes(state: &State) -> Markup {
    html! {
        @for cause in state.causes.iter().take(ROWS) {
            tr { td { (cause.stage) } td { (cause.blame) } td.number { (cause.count) } }
        }
    }
}

fn destinations(state: &State) -> Markup {
    html! {
        @for (url, used) in state.destinations.iter().take(ROWS) {
            tr {
                td { (url) } td.number { (used.measured) } td.number { (used.failed) }
                td.number { (size(used.bytes as f64)) }
                td { @if used.down { "left alone" } @else { "in use" } }
            }
        }
    }
}

fn helpers(state: &State) -> Markup {
    html! {
        @for load in state.helpers().iter().take(ROWS) {
            tr {
                td { (named(&load.nickname, &load.fingerprint)) }
                td.number { (load.measurements) } td.number { (rate(load.bandwidth)) }
            }
        }
    }
}

fn recent(state: &State) -> Markup {
    html! {
        @for outcome in state.recent.iter().rev().take(ROWS) {
            tr {
                td { (clock(outcome.time)) }
                td { a href=(format!("relay/{}.html", outcome.fingerprint)) {
                    (named(&outcome.nickname, &outcome.fingerprint)) } }
                td { (outcome.text) }
            }
        }
    }
}

fn named(nickname: &str, relay: &bw_file::Fingerprint) -> String {
    if nickname.is_empty() {
        relay.to_string().chars().take(8).collect()
    } else {
        nickname.to_owned()
    }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string());
    first.unwrap_or_default() + letters.as_str()
}
