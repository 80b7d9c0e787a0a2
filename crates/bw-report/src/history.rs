//! A relay's weight in one file after the other.

use bw_file::Fingerprint;
use maud::{Markup, html};

use crate::format::{grouped, minute, utc};
use crate::graph;
use crate::layout::Column::{Number, Text};
use crate::layout::table;
use crate::site::Site;

/// Files shown as numbers; the graph has all of them.
const ROWS: usize = 10;

/// The section, or nothing where no file votes for the relay.
pub(crate) fn section(site: &Site, relay: &Fingerprint) -> Markup {
    let files = site.facts.files.iter();
    let known: Vec<_> = files
        .filter_map(|file| Some((file, file.time()?, file.weights.get(relay)?.value())))
        .collect();
    let points: Vec<(u64, f64)> = known
        .iter()
        .map(|(_, time, weight)| (time.as_secs(), *weight as f64))
        .collect();
    let (Some(first), Some(last)) = (known.first(), known.last()) else {
        return html! {};
    };
    let label = format!(
        "Weight from {} to {}: from {} to {} kB/s",
        utc(first.1),
        utc(last.1),
        first.2,
        last.2
    );
    html! {
        section {
            h2 { "History" }
            @if points.len() > 1 {
                figure {
                    (graph::line(&points, &label))
                    figcaption { (label) ". The scale begins at 0." }
                }
            }
            (table(
                "Weight by file",
                "Its weight in the newest bandwidth files",
                &[
                    Text("File"),
                    Text("Made (UTC)"),
                    Number("Weight, kB/s"),
                    Number("Place"),
                ],
                &html! {
                    @for (file, time, weight) in known.iter().rev().take(ROWS) {
                        tr {
                            th scope="row" { (file.name) }
                            td.time { (minute(*time)) }
                            td.number { (grouped(*weight)) }
                            td.number {
                                @if let Some(standing) = file.weights.standing(relay) {
                                    (standing.place) " of " (grouped(standing.of as u64))
                                }
                            }
                        }
                    }
                },
            ))
        }
    }
}
