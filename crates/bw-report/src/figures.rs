//! The figures, each with the data that it shows.

mod files;
mod groups;
mod helpers;
mod round;
mod truth;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use bw_aggregate::RelayClass;
use bw_file::Fingerprint;
use maud::html;
use plotters::prelude::*;

use self::groups::by_group;
use crate::chart::{
    ACCENT, Area, Axis, Drawn, FAINT, HEIGHT, INK, WARN, WIDTH, around, cloud, frame, marks,
    number_label, picture, rate_label,
};
use crate::format::{grouped, rate, short, utc};
use crate::layout::{self, Depth, FIGURES, scrolling};
use crate::records::{Example, Records};
use crate::relay::class_name;
use crate::site::{Facts, Site};

/// Groups with fewer relays than this show chance.
const FEWEST: usize = 3;

/// Groups of a figure at most, the largest.
const GROUPS: usize = 12;

/// All figures of a report.
#[derive(Debug)]
pub(crate) struct Figures(Vec<Figure>);

/// A picture and its data.
#[derive(Debug)]
struct Figure {
    name: &'static str,
    title: &'static str,
    caption: String,
    height: u32,
    picture: String,
    data: String,
}

/// A relay that was measured and whose descriptor is known.
struct Point {
    relay: Fingerprint,
    class: RelayClass,
    country: String,
    version: String,
    family: usize,
    advertised: f64,
    measured: f64,
}

impl Point {
    fn ratio(&self) -> f64 {
        self.measured / self.advertised
    }
}

impl Figures {
    pub(crate) fn new(facts: &Facts, records: &Records) -> Self {
        let points = points(facts);
        let mut figures = Vec::new();
        if !points.is_empty() {
            figures.push(measured_against_advertised(&points));
            figures.extend(by_group(
                "ratio-by-class",
                "Measured over advertised, by class",
                &points,
                |point| class_name(point.class),
            ));
            figures.extend(by_group(
                "ratio-by-country",
                "Measured over advertised, by country",
                &points,
                |point| &point.country,
            ));
            figures.extend(by_group(
                "ratio-by-version",
                "Measured over advertised, by version of tor",
                &points,
                |point| &point.version,
            ));
            figures.extend(by_group(
                "ratio-by-family",
                "Measured over advertised, by size of family",
                &points,
                |point| family_size(point.family),
            ));
        }
        figures.extend(truth::error(facts));
        figures.extend(repeatability(records));
        figures.extend(helpers::effect(facts, records));
        figures.extend(records.example.as_ref().map(transfer));
        let completed = facts.rounds.iter().find(|round| round.ended.is_some());
        if let Some(round) = completed.or(facts.rounds.first()) {
            let times = records.times_of(&round.id);
            figures.extend(round::schedule(&times, &round.scanner));
            figures.extend(round::timetable(&times, facts));
        }
        figures.extend(files::over_time(&facts.files));
        Self(figures)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.0.iter().map(|figure| figure.name)
    }

    pub(crate) fn picture(&self, name: &str) -> String {
        self.figure(name)
            .map_or_else(String::new, |figure| figure.picture.clone())
    }

    pub(crate) fn data(&self, name: &str) -> String {
        self.figure(name)
            .map_or_else(String::new, |figure| figure.data.clone())
    }

    fn figure(&self, name: &str) -> Option<&Figure> {
        self.0.iter().find(|figure| figure.name == name)
    }
}

pub(crate) fn page(site: &Site) -> String {
    let figures = &site.figures.0;
    let main = html! {
        h1 { "Figures" }
        @if figures.is_empty() { p.lead { "Nothing was measured yet." } }
        div.halves {
            @for figure in figures {
                section {
                    h2 { (figure.title) }
                    figure.picture {
                        (scrolling(figure.title, &html! {
                            img src=(format!("figure/{}.svg", figure.name)) alt=(figure.caption)
                                width=(WIDTH) height=(figure.height) loading="lazy";
                        }))
                        figcaption {
                            (figure.caption) " "
                            a href=(format!("figure/{}.csv", figure.name)) { "Data (CSV)" }
                        }
                    }
                }
            }
        }
    };
    layout::page(site, "Figures", FIGURES, Depth::Top, &main)
}

fn points(facts: &Facts) -> Vec<Point> {
    let relays = facts.aggregates.in_consensus();
    relays
        .filter_map(|relay| {
            let descriptor = relay.descriptor?;
            let advertised = descriptor
                .observed
                .min(descriptor.average)
                .min(descriptor.burst);
            let network = facts.network.relay(&relay.fingerprint)?;
            let point = Point {
                relay: relay.fingerprint,
                class: RelayClass::from(relay.flags),
                country: network
                    .country
                    .map(|country| country.to_string())
                    .unwrap_or_default(),
                version: network.version.as_deref().map(version).unwrap_or_default(),
                family: network.family.len(),
                advertised: advertised.value() as f64,
                measured: relay.statistics?.median.value() as f64,
            };
            (point.advertised > 0.0 && point.measured > 0.0).then_some(point)
        })
        .collect()
}

/// The number of a version of tor. Relays say what they like: what is no number is another one.
fn version(words: &str) -> String {
    let number = words.strip_prefix("Tor ").unwrap_or(words);
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-".contains(&byte);
    if number.len() <= 24 && number.bytes().all(is_plain) {
        number.to_owned()
    } else {
        "others".to_owned()
    }
}

const fn family_size(declared: usize) -> &'static str {
    match declared {
        0 => "alone",
        1..=4 => "2 to 5 relays",
        5..=19 => "6 to 20 relays",
        _ => "more than 20 relays",
    }
}

/// Each relay's rate by what it says of itself.
fn measured_against_advertised(points: &[Point]) -> Figure {
    let places: Vec<_> = points
        .iter()
        .map(|point| (point.advertised, point.measured))
        .collect();
    let x = around(places.iter().map(|place| place.0), 0..11);
    let y = around(places.iter().map(|place| place.1), 0..11);
    let draw = |area: &Area<'_>| -> Drawn {
        let mut chart = frame(
            area,
            Axis::log(x.clone(), "advertised", &rate_label),
            Axis::log(y.clone(), "measured, median", &rate_label),
        )?;
        let (low, high) = (x.start.max(y.start), x.end.min(y.end));
        if low < high {
            chart.draw_series(LineSeries::new([(low, low), (high, high)], INK.mix(0.6)))?;
        }
        cloud(&mut chart, &places)
    };
    let mut data =
        "fingerprint,class,country,version,advertised_bytes_per_second,measured_bytes_per_second\n"
            .to_owned();
    for point in points {
        let class = class_name(point.class);
        let _ = writeln!(
            data,
            "{},{class},{},{},{},{}",
            point.relay, point.country, point.version, point.advertised, point.measured
        );
    }
    Figure {
        name: "measured-against-advertised",
        title: "Measured against advertised",
        caption: format!(
            "{} relays{}. Advertised is the least of observed bandwidth, rate and burst. On the line, a relay has all \
             of it to spare.",
            grouped(points.len()),
            marks(points.len())
        ),
        height: HEIGHT,
        picture: picture(HEIGHT, draw),
        data,
    }
}

/// The difference of a relay's next measurement from the one before.
fn repeatability(records: &Records) -> Option<Figure> {
    /// Bins of a decade, and decades to each side.
    const BINS: f64 = 20.0;
    const SIDE: i64 = 20;
    let mut ratios = Vec::new();
    for (_, relay) in records.relays() {
        let accepted = relay
            .measured
            .iter()
            .filter(|attempt| attempt.verdict.gives_rate());
        let rates: Vec<f64> = accepted.filter_map(crate::attempt::Attempt::rate).collect();
        ratios.extend(rates.windows(2).map(|pair| pair[1] / pair[0]));
    }
    if ratios.len() < FEWEST {
        return None;
    }
    ratios.sort_unstable_by(f64::total_cmp);
    let mut bins: BTreeMap<i64, u64> = BTreeMap::new();
    for ratio in &ratios {
        let bin = (ratio.log10() * BINS + 0.5).floor() as i64;
        *bins.entry(bin.clamp(-SIDE, SIDE)).or_default() += 1;
    }
    let most = bins.values().copied().max().unwrap_or(1) as f64;
    let edge = |bin: f64| 10_f64.powf(bin / BINS);
    let draw = |area: &Area<'_>| -> Drawn {
        let mut chart = frame(
            area,
            Axis::log(0.08..12.5, "rate / the one before", &number_label),
            Axis::new(0.0..most * 1.05, "pairs of measurements", &number_label),
        )?;
        chart.draw_series(bins.iter().map(|(&bin, &count)| {
            let sides = (edge(bin as f64 - 0.45), edge(bin as f64 + 0.45));
            Rectangle::new([(sides.0, 0.0), (sides.1, count as f64)], ACCENT.filled())
        }))?;
        Ok(())
    };
    let mut data = "ratio_from,ratio_to,pairs\n".to_owned();
    for (&bin, count) in &bins {
        let _ = writeln!(
            data,
            "{},{},{count}",
            edge(bin as f64 - 0.5),
            edge(bin as f64 + 0.5)
        );
    }
    let within = ratios
        .iter()
        .filter(|ratio| (0.8..=1.25).contains(*ratio))
        .count();
    Some(Figure {
        name: "repeatability",
        title: "Repeatability",
        caption: format!(
            "Rates of the same relay, one after the other: {} pairs, of which {:.0} % differ by a factor of less than 1.25.",
            grouped(ratios.len() as u64),
            within as f64 / ratios.len() as f64 * 100.0
        ),
        height: HEIGHT,
        picture: picture(HEIGHT, draw),
        data,
    })
}

/// The fastest transfer, slice by slice.
fn transfer(example: &Example) -> Figure {
    let mut at = 0.0;
    let mut points = Vec::new();
    let mut data = "seconds,bytes_per_second,throttled_flows,counted\n".to_owned();
    for (index, slice) in example.slices.iter().enumerate() {
        let length = slice.micros as f64 / 1e6;
        let rate = slice.bytes as f64 / length.max(1e-6);
        points.push((at + length / 2.0, rate, slice.throttled > 0));
        let counted = example.counted.contains(&index);
        let _ = writeln!(data, "{at:.6},{rate:.0},{},{counted}", slice.throttled);
        at += length;
    }
    let top = points.iter().map(|point| point.1).fold(1.0, f64::max) * 1.05;
    let edge = |index: usize| points.get(index).map_or(at, |point| point.0);
    let draw =
        |area: &Area<'_>| -> Drawn {
            let mut chart = frame(
                area,
                Axis::new(0.0..at.max(0.1), "seconds", &number_label),
                Axis::new(0.0..top, "rate", &rate_label),
            )?;
            let left_out = [
                (0.0, edge(example.counted.start)),
                (edge(example.counted.end), at),
            ];
            chart.draw_series(left_out.into_iter().filter(|(from, to)| to > from).map(
                |(from, to)| Rectangle::new([(from, 0.0), (to, top)], FAINT.mix(0.6).filled()),
            ))?;
            let line = points.iter().map(|point| (point.0, point.1));
            chart.draw_series(LineSeries::new(line, ACCENT.stroke_width(2)))?;
            let mean = [
                (edge(example.counted.start), example.rate),
                (edge(example.counted.end), example.rate),
            ];
            chart.draw_series(LineSeries::new(mean, INK.stroke_width(1)))?;
            let throttled = points.iter().filter(|point| point.2);
            chart.draw_series(
                throttled.map(|point| Circle::new((point.0, point.1), 3, WARN.filled())),
            )?;
            Ok(())
        };
    Figure {
        name: "transfer",
        title: "The fastest transfer",
        caption: format!(
            "Relay {} at {} UTC: the level line is the mean of {} over the slices that count. What is grey is left out; \
             dots are slices that the scanner’s link throttled.",
            short(&example.relay),
            utc(example.ended),
            rate(example.rate)
        ),
        height: HEIGHT,
        picture: picture(HEIGHT, draw),
        data,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_numbers() {
        assert_eq!(version("Tor 0.4.9.1-alpha-dev"), "0.4.9.1-alpha-dev");
        for odd in ["Tor <b>", "Tor 1,2", "Arti 2 of mine", &"1".repeat(25)] {
            assert_eq!(version(odd), "others");
        }
    }
}
