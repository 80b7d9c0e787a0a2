//! The round that runs, as a page: complete without a script, moved by one.

use bw_results::text::{counted, grouped};
use bw_watch::text::{clock, rate, size, time};
use bw_watch::{Rate, State};
use maud::{Markup, html};
use serde_json::{Value, json};

use self::Column::{Number, Text};

/// The script that moves the page.
pub(crate) const SCRIPT: &str = include_str!("live.js");

/// Rows of running measurements and of last outcomes: what fits on a screen or two.
const ROWS: usize = 40;
/// Rows of other tables, of which the first matter most.
const FEW: usize = 12;
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
        section { h2 { "Measuring now" } (table("live-running", "Measurements under way, the fastest first",
            &[Text("Relay"), Text("As"), Number("Rate"), Number("±"), Number("Bytes"), Text("Helpers")],
            &running(state))) }
        div.halves {
            div {
                section { h2 { "Destinations" } (table("live-destinations", "Destinations of this process",
                    &[Text("Destination"), Number("Measured"), Number("Failed"), Number("Bytes"), Text("State")],
                    &destinations(state))) }
                section { h2 { "Failures" } (table("live-causes", "Failures by stage and blame",
                    &[Text("Stage"), Text("Laid to"), Number("Failures")], &causes(state))) }
                section { h2 { "Helpers" } (table("live-helpers", "Helpers under way, the busiest first",
                    &[Text("Helper"), Number("Measurements"), Number("Rate")], &helpers(state))) }
            }
            section { h2 { "Last outcomes" } (table("live-recent", "The last outcomes, the newest first",
                &[Text("Time (UTC)"), Text("Relay"), Text("Outcome")], &recent(state))) }
        }
    };
    markup.into_string()
}

/// The head of a column.
enum Column {
    Text(&'static str),
    /// Set to the right.
    Number(&'static str),
}

fn table(id: &str, caption: &str, columns: &[Column], rows: &Markup) -> Markup {
    html! {
        div.scroll role="region" aria-label=(caption) tabindex="0" {
            table {
                caption { (caption) }
                thead { tr {
                    @for column in columns {
                        @match column {
                            Text(head) => { th scope="col" { (head) } }
                            Number(head) => { th.number scope="col" { (head) } }
                        }
                    }
                } }
                tbody id=(id) data-live {
                    @if rows.0.is_empty() { tr { td colspan=(columns.len()) { "none" } } } @else { (rows) }
                }
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
                (grouped(round.done)) " of " (counted(round.targets, "relay")) " are done ("
                (format!("{share:.0}")) " %), " (grouped(round.failed)) " of them failed. "
                (grouped(state.running.len())) " are being measured, " (grouped(state.queued())) " wait. "
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
        p.ends { small { (time(SECONDS as u64)) " ago" } small { "the top is " (rate(top)) } small { "now" } }
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
                    td.number { small { "opening" } }
                    td {}
                }
                td.number { (size(running.bytes as f64)) }
                td.line {
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
        @for cause in state.causes.iter().take(FEW) {
            tr { td { (cause.stage) } td { (cause.blame) } td.number { (grouped(cause.count)) } }
        }
    }
}

fn destinations(state: &State) -> Markup {
    html! {
        @for (url, used) in state.destinations.iter().take(FEW) {
            tr {
                td.url { (url) } td.number { (grouped(used.measured)) } td.number { (grouped(used.failed)) }
                td.number { (size(used.bytes as f64)) }
                td.time { @if used.down { "left alone" } @else { "in use" } }
            }
        }
    }
}

fn helpers(state: &State) -> Markup {
    html! {
        @for load in state.helpers().iter().take(FEW) {
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
                td.words { (outcome.text) }
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
