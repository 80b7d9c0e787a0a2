//! The figures, each with the data that it shows.

mod helpers;
mod truth;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use bw_aggregate::RelayClass;
use bw_file::Fingerprint;
use maud::html;
use plotters::prelude::*;

use crate::chart::{
    ACCENT, Axis, Drawn, FAINT, INK, WARN, decades, frame, letters, number_label, picture,
    rate_label,
};
use crate::format::{factor, grouped, quantile, rate, utc};
use crate::layout::{self, Depth, FIGURES};
use crate::records::{Example, Records, Time};
use crate::relay::class_name;
use crate::site::{Facts, Site};

/// Groups with fewer relays than this show chance.
const FEWEST: usize = 3;

/// Countries that are shown.
const COUNTRIES: usize = 12;

/// All figures of a report.
#[derive(Debug)]
pub(crate) struct Figures(Vec<Figure>);

/// A picture and its data.
#[derive(Debug)]
struct Figure {
    name: &'static str,
    title: &'static str,
    caption: String,
    picture: String,
    data: String,
}

/// A relay that was measured and whose descriptor is known.
struct Point {
    relay: Fingerprint,
    class: RelayClass,
    country: String,
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
            figures.push(by_group(
                "ratio-by-class",
                "Measured over advertised, by class",
                &points,
                |point| class_name(point.class).to_owned(),
                usize::MAX,
            ));
            if points.iter().any(|point| !point.country.is_empty()) {
                figures.push(by_group(
                    "ratio-by-country",
                    "Measured over advertised, by country",
                    &points,
                    |point| point.country.clone(),
                    COUNTRIES,
                ));
            }
            figures.push(by_group(
                "ratio-by-family",
                "Measured over advertised, by size of family",
                &points,
                |point| family_size(point.family).to_owned(),
                usize::MAX,
            ));
        }
        figures.extend(truth::error(facts));
        figures.extend(repeatability(records));
        figures.extend(helpers::effect(facts, records));
        figures.extend(records.example.as_ref().map(transfer));
        let completed = facts.rounds.iter().find(|round| round.ended.is_some());
        if let Some(round) = completed.or(facts.rounds.first()) {
            figures.extend(schedule(&records.times_of(&round.id), &round.scanner));
        }
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
        @for figure in figures {
            section {
                h2 { (figure.title) }
                figure.picture {
                    img src=(format!("figure/{}.svg", figure.name)) alt=(figure.caption)
                        width="760" height="440" loading="lazy";
                    figcaption {
                        (figure.caption) " "
                        a href=(format!("figure/{}.csv", figure.name)) { "Data (CSV)" }
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
                family: network.family.len(),
                advertised: advertised.value() as f64,
                measured: relay.statistics?.median.value() as f64,
            };
            (point.advertised > 0.0 && point.measured > 0.0).then_some(point)
        })
        .collect()
}

const fn family_size(declared: usize) -> &'static str {
    match declared {
        0 => "alone",
        1..=4 => "2 to 5 relays",
        5..=19 => "6 to 20 relays",
        _ => "more than 20 relays",
    }
}

/// The number of relays at each place in the plane of both rates.
fn measured_against_advertised(points: &[Point]) -> Figure {
    /// Cells of a decade: some 25 % wide.
    const CELLS: f64 = 10.0;
    let mut cells: BTreeMap<(i64, i64), u64> = BTreeMap::new();
    let cell = |value: f64| (value.log10() * CELLS).floor() as i64;
    for point in points {
        *cells
            .entry((cell(point.advertised), cell(point.measured)))
            .or_default() += 1;
    }
    let x = decades(points.iter().map(|point| point.advertised), 0..11);
    let y = decades(points.iter().map(|point| point.measured), 0..11);
    let most = cells.values().copied().max().unwrap_or(1) as f64;
    let from = |cell: i64| 10_f64.powf(cell as f64 / CELLS);
    let draw = |area: &crate::chart::Area<'_>| -> Drawn {
        let mut chart = frame(
            area,
            Axis::new(x.clone().log_scale(), "advertised", &rate_label),
            Axis::new(y.clone().log_scale(), "measured, median", &rate_label),
        )?;
        let (low, high) = (x.start.max(y.start), x.end.min(y.end));
        if low < high {
            chart.draw_series(LineSeries::new([(low, low), (high, high)], INK.mix(0.6)))?;
        }
        chart.draw_series(cells.iter().map(|(&(column, row), &count)| {
            let shade = 0.2 + 0.8 * (count as f64).ln_1p() / most.ln_1p();
            let corners = [(from(column), from(row)), (from(column + 1), from(row + 1))];
            Rectangle::new(corners, ACCENT.mix(shade).filled())
        }))?;
        Ok(())
    };
    let mut data =
        "fingerprint,class,country,advertised_bytes_per_second,measured_bytes_per_second\n"
            .to_owned();
    for point in points {
        let class = class_name(point.class);
        let _ = writeln!(
            data,
            "{},{class},{},{},{}",
            point.relay, point.country, point.advertised, point.measured
        );
    }
    Figure {
        name: "measured-against-advertised",
        title: "Measured against advertised",
        caption: format!(
            "{} relays, the darker the more of them. Advertised is the least of observed bandwidth, rate and burst. On \
             the line, a relay has all of it to spare.",
            grouped(points.len() as u64)
        ),
        picture: picture(draw),
        data,
    }
}

/// Quantiles of the ratio in groups of relays, the largest groups.
fn by_group(
    name: &'static str,
    title: &'static str,
    points: &[Point],
    group: impl Fn(&Point) -> String,
    most: usize,
) -> Figure {
    let mut groups: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for point in points {
        groups.entry(group(point)).or_default().push(point.ratio());
    }
    let mut groups: Vec<(String, Vec<f64>)> = groups
        .into_iter()
        .filter(|(name, ratios)| !name.is_empty() && ratios.len() >= FEWEST)
        .collect();
    groups.sort_by_key(|(_, ratios)| std::cmp::Reverse(ratios.len()));
    groups.truncate(most);
    for (_, ratios) in &mut groups {
        ratios.sort_unstable_by(f64::total_cmp);
    }
    let quantiles =
        |ratios: &[f64]| [0.1, 0.25, 0.5, 0.75, 0.9].map(|at| quantile(ratios, at).unwrap_or(0.0));
    let rows: Vec<(String, usize, [f64; 5])> = groups
        .iter()
        .map(|(name, ratios)| (name.clone(), ratios.len(), quantiles(ratios)))
        .collect();
    let mut data = "group,relays,p10,p25,median,p75,p90\n".to_owned();
    for (name, count, [low, quarter, median, three, high]) in &rows {
        let _ = writeln!(
            data,
            "{name},{count},{low},{quarter},{median},{three},{high}"
        );
    }
    let medians: Vec<String> = rows
        .iter()
        .map(|row| format!("{} {}", row.0, factor(row.2[2])))
        .collect();
    Figure {
        name,
        title,
        caption: format!(
            "Thin: a tenth to nine tenths of the relays; thick: the middle half; the mark is the median: {}.",
            medians.join(", ")
        ),
        picture: picture(|area| quantile_rows(area, &rows)),
        data,
    }
}

fn quantile_rows(area: &crate::chart::Area<'_>, rows: &[(String, usize, [f64; 5])]) -> Drawn {
    let x = decades(rows.iter().flat_map(|row| row.2), -4..5);
    let left = x.start * 1.02;
    let count = rows.len().max(1) as f64;
    let mut chart = frame(
        area,
        Axis::new(x.log_scale(), "measured / advertised", &number_label),
        Axis::new(0.0..count, "", &number_label),
    )?;
    for (index, (name, relays, [low, quarter, median, three, high])) in rows.iter().enumerate() {
        let top = count - index as f64;
        let middle = top - 0.62;
        let bar = |from: f64, to: f64, half: f64| [(from, middle - half), (to, middle + half)];
        chart.draw_series([
            Rectangle::new(bar(*low, *high, 0.03), ACCENT.mix(0.6).filled()),
            Rectangle::new(bar(*quarter, *three, 0.16), ACCENT.mix(0.6).filled()),
        ])?;
        let mark = [(*median, middle - 0.22), (*median, middle + 0.22)];
        chart.draw_series([PathElement::new(mark, INK.stroke_width(3))])?;
        let label = format!("{name} ({})", grouped(*relays as u64));
        chart.draw_series([Text::new(label, (left, top - 0.06), letters(13))])?;
    }
    Ok(())
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
    let draw = |area: &crate::chart::Area<'_>| -> Drawn {
        let mut chart = frame(
            area,
            Axis::new(
                (0.08..12.5).log_scale(),
                "rate / the one before",
                &number_label,
            ),
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
        picture: picture(draw),
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
        |area: &crate::chart::Area<'_>| -> Drawn {
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
            "Relay {} at {} UTC: {} over the slices that count. What is grey is left out; dots are slices that the \
             scanner’s link throttled.",
            example.relay,
            utc(example.ended),
            rate(example.rate)
        ),
        picture: picture(draw),
        data,
    }
}

/// The traffic over the link in a round, and the number of relays measured at a time.
fn schedule(times: &[Time], scanner: &str) -> Option<Figure> {
    const BINS: usize = 240;
    let begin = times.iter().map(|time| time.started.value()).min()?;
    let end = times.iter().map(|time| time.ended.value()).max()?;
    let length = (end.saturating_sub(begin) as f64 / 1000.0).max(1.0);
    let bin = length / BINS as f64;
    let (mut rates, mut running) = (vec![0.0; BINS], vec![0.0; BINS]);
    for time in times {
        let at = |moment: u64| moment.saturating_sub(begin) as f64 / 1000.0;
        let (from, to) = (at(time.started.value()), at(time.ended.value()));
        let span = (to - from).max(1e-3);
        let last = ((to / bin) as usize).min(BINS - 1);
        for (index, (rate, run)) in rates
            .iter_mut()
            .zip(&mut running)
            .enumerate()
            .take(last + 1)
            .skip((from / bin) as usize)
        {
            let (left, right) = (index as f64 * bin, (index + 1) as f64 * bin);
            let inside = (right.min(to) - left.max(from)).max(0.0);
            *rate += time.bytes as f64 * inside / span / bin;
            *run += inside / bin;
        }
    }
    let draw = |area: &crate::chart::Area<'_>| -> Drawn {
        let parts = area.split_evenly((2, 1));
        for (part, (values, name, label)) in parts.iter().zip([
            (&rates, "payload", &rate_label as &dyn Fn(&f64) -> String),
            (&running, "attempts at a time", &number_label),
        ]) {
            let top = values.iter().copied().fold(1e-9, f64::max) * 1.05;
            let minutes = length / 60.0;
            let mut chart = frame(
                part,
                Axis::new(0.0..minutes, "minutes", &number_label),
                Axis::new(0.0..top, name, label),
            )?;
            chart.draw_series(values.iter().enumerate().map(|(index, &value)| {
                let (from, to) = (index as f64 * bin / 60.0, (index + 1) as f64 * bin / 60.0);
                Rectangle::new([(from, 0.0), (to, value)], ACCENT.mix(0.8).filled())
            }))?;
        }
        Ok(())
    };
    let mut data = "started_ms,ended_ms,bytes,measured\n".to_owned();
    for time in times {
        let _ = writeln!(
            data,
            "{},{},{},{}",
            time.started.value(),
            time.ended.value(),
            time.bytes,
            time.measured
        );
    }
    let total: u64 = times
        .iter()
        .map(|time| time.bytes)
        .fold(0, u64::saturating_add);
    Some(Figure {
        name: "schedule",
        title: "The newest round",
        caption: format!(
            "{} attempts of scanner {scanner} in {:.1} minutes: {} on average, and how many ran at a time.",
            grouped(times.len() as u64),
            length / 60.0,
            rate(total as f64 / length)
        ),
        picture: picture(draw),
        data,
    })
}
