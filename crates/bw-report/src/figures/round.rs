//! The newest round: the link, and who was measured when.

use std::fmt::Write as _;

use bw_aggregate::RelayAggregate;
use plotters::prelude::*;

use super::Figure;
use crate::chart::{
    ACCENT, Area, Axis, Drawn, HEIGHT, WARN, around, frame, number_label, picture, rate_label,
};
use crate::format::{grouped, rate, span};
use crate::records::Time;
use crate::site::Facts;

/// Bars over a round.
const BINS: usize = 240;

/// Attempts that are drawn; of more, some are left out evenly.
const DRAWN: usize = 1000;

/// From the beginning of a round to its end.
struct Course {
    /// In milliseconds since the Unix epoch.
    begin: u64,
    /// Seconds.
    length: f64,
    /// The unit of its axis, and its seconds.
    unit: (&'static str, f64),
}

impl Course {
    fn of(times: &[Time]) -> Option<Self> {
        let begin = times.iter().map(|time| time.started.value()).min()?;
        let end = times.iter().map(|time| time.ended.value()).max()?;
        let length = (end.saturating_sub(begin) as f64 / 1000.0).max(1.0);
        let unit = match length {
            ..180.0 => ("seconds", 1.0),
            ..10_800.0 => ("minutes", 60.0),
            _ => ("hours", 3600.0),
        };
        Some(Self {
            begin,
            length,
            unit,
        })
    }

    /// Seconds from its beginning to those of an attempt's beginning and end.
    fn at(&self, time: &Time) -> (f64, f64) {
        let at = |moment: u64| moment.saturating_sub(self.begin) as f64 / 1000.0;
        (at(time.started.value()), at(time.ended.value()))
    }
}

/// The traffic over the link in a round, and the number of relays measured at a time.
pub(super) fn schedule(times: &[Time], scanner: &str) -> Option<Figure> {
    let course = Course::of(times)?;
    let bin = course.length / BINS as f64;
    let (mut rates, mut running) = (vec![0.0; BINS], vec![0.0; BINS]);
    for time in times {
        let (from, to) = course.at(time);
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
    let (unit, seconds) = course.unit;
    let draw = |area: &Area<'_>| -> Drawn {
        let parts = area.split_evenly((2, 1));
        for (part, (values, name, label)) in parts.iter().zip([
            (&rates, "payload", &rate_label as &dyn Fn(&f64) -> String),
            (&running, "at a time", &number_label),
        ]) {
            let top = values.iter().copied().fold(1e-9, f64::max) * 1.05;
            let mut chart = frame(
                part,
                Axis::new(0.0..course.length / seconds, unit, &number_label),
                Axis::new(0.0..top, name, label),
            )?;
            let edge = |index: usize| index as f64 * bin / seconds;
            chart.draw_series(values.iter().enumerate().map(|(index, &value)| {
                let corners = [(edge(index), 0.0), (edge(index + 1), value)];
                Rectangle::new(corners, ACCENT.mix(0.8).filled())
            }))?;
        }
        Ok(())
    };
    let mut data = "begin_seconds,payload_bytes_per_second,attempts_at_a_time\n".to_owned();
    for (index, (rate, run)) in rates.iter().zip(&running).enumerate() {
        let _ = writeln!(data, "{:.3},{rate:.0},{run:.3}", index as f64 * bin);
    }
    let bytes = times.iter().map(|time| time.bytes);
    let total = bytes.fold(0, u64::saturating_add);
    Some(Figure {
        name: "schedule",
        title: "The newest round",
        caption: format!(
            "{} attempts of scanner {scanner} in {}: {} on average, and the number of attempts that ran at a time.",
            grouped(times.len()),
            span(course.length as u64),
            rate(total as f64 / course.length)
        ),
        height: HEIGHT,
        picture: picture(HEIGHT, draw),
        data,
    })
}

/// The timetable: each attempt from its beginning to its end, by the relay's rate.
pub(super) fn timetable(times: &[Time], facts: &Facts) -> Option<Figure> {
    let course = Course::of(times)?;
    let relays = &facts.aggregates.relays;
    let mut attempts: Vec<(&Time, &RelayAggregate, f64)> = times
        .iter()
        .filter_map(|time| {
            let relay = relays.get(usize::try_from(time.relay).ok()?)?;
            Some((time, relay, expected(relay)?))
        })
        .collect();
    attempts.sort_by_key(|(time, ..)| time.started);
    if attempts.is_empty() {
        return None;
    }
    let y = around(attempts.iter().map(|attempt| attempt.2), 0..11);
    let (unit, seconds) = course.unit;
    let every = attempts.len().div_ceil(DRAWN);
    let draw = |area: &Area<'_>| -> Drawn {
        let mut chart = frame(
            area,
            Axis::new(0.0..course.length / seconds, unit, &number_label),
            Axis::log(y, "the relay's rate", &rate_label),
        )?;
        let shown = || attempts.iter().step_by(every);
        chart.draw_series(shown().map(|(time, _, rate)| {
            let (from, to) = course.at(time);
            // A short attempt of a long round is still to be seen.
            let to = to.max(from + course.length / 200.0).min(course.length);
            let line = [(from / seconds, *rate), (to / seconds, *rate)];
            PathElement::new(line, ACCENT.mix(0.7).stroke_width(3))
        }))?;
        let failed = shown().filter(|(time, ..)| !time.measured);
        chart.draw_series(failed.map(|(time, _, rate)| {
            Cross::new(
                (course.at(time).1 / seconds, *rate),
                4,
                WARN.stroke_width(2),
            )
        }))?;
        Ok(())
    };
    let mut data = "fingerprint,started_ms,ended_ms,bytes,measured\n".to_owned();
    for (time, relay, _) in &attempts {
        let (started, ended) = (time.started.value(), time.ended.value());
        let _ = writeln!(
            data,
            "{},{started},{ended},{},{}",
            relay.fingerprint, time.bytes, time.measured
        );
    }
    let some = if every > 1 {
        format!(" One of {every} is drawn.")
    } else {
        String::new()
    };
    Some(Figure {
        name: "timetable",
        title: "Who was measured when",
        caption: format!(
            "{} attempts of the newest round, each from its first circuit to its end, by the relay’s measured rate or \
             else its advertised one. A cross is one that gave no rate.{some}",
            grouped(attempts.len())
        ),
        height: HEIGHT,
        picture: picture(HEIGHT, draw),
        data,
    })
}

/// A relay's rate, by which attempts are told apart.
fn expected(relay: &RelayAggregate) -> Option<f64> {
    let measured = relay.statistics.map(|statistics| statistics.median);
    let advertised = || Some(relay.descriptor?.observed);
    let rate = measured.or_else(advertised)?.value() as f64;
    (rate > 0.0).then_some(rate)
}
