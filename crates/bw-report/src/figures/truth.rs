//! Measured rates against true ones, where these are known.

use std::fmt::Write as _;

use bw_file::Fingerprint;
use plotters::prelude::*;

use super::Figure;
use crate::chart::{
    ACCENT, Area, Axis, Drawn, HEIGHT, INK, around, frame, number_label, picture, rate_label,
};
use crate::format::{grouped, percent};
use crate::site::Facts;

/// A relay whose capacity is known, in bytes per second.
struct Known {
    relay: Fingerprint,
    truth: f64,
    measured: f64,
}

impl Known {
    fn ratio(&self) -> f64 {
        self.measured / self.truth
    }
}

/// The median of each relay's rates over its true capacity.
pub(super) fn error(facts: &Facts) -> Option<Figure> {
    let known = known(facts);
    if known.is_empty() {
        return None;
    }
    let x = around(known.iter().map(|relay| relay.truth), 0..11);
    let draw = |area: &Area<'_>| -> Drawn {
        let mut chart = frame(
            area,
            Axis::log(x.clone(), "true capacity", &rate_label),
            Axis::new(0.0..1.6, "measured / true", &number_label),
        )?;
        chart.draw_series(LineSeries::new(
            [(x.start, 1.0), (x.end, 1.0)],
            INK.mix(0.6),
        ))?;
        let at = |relay: &Known| (relay.truth, relay.ratio().min(1.6));
        let circles = known.iter();
        chart.draw_series(
            circles.map(|relay| Circle::new(at(relay), 4, ACCENT.mix(0.7).filled())),
        )?;
        Ok(())
    };
    let mut data = "fingerprint,true_bytes_per_second,measured_bytes_per_second\n".to_owned();
    for relay in &known {
        let _ = writeln!(data, "{},{},{}", relay.relay, relay.truth, relay.measured);
    }
    let (spread, weight_error) = (spread(&known), weight_error(&known));
    Some(Figure {
        name: "truth",
        title: "Error against the truth",
        caption: format!(
            "{} relays with a known capacity. tor lets some 0.76 to 0.80 of a relay’s limit pass as payload, much the \
             same for all: that is no error of weights, which are ratios. The standard deviation of ln(measured/true) is {spread:.3}. Shares of all weights would be {} off in sum \
             (network weight error).",
            grouped(known.len() as u64),
            percent(weight_error)
        ),
        height: HEIGHT,
        picture: picture(HEIGHT, draw),
        data,
    })
}

fn known(facts: &Facts) -> Vec<Known> {
    let relays = facts.truth.iter();
    relays
        .filter_map(|(relay, truth)| {
            let statistics = facts.aggregates.relay(relay)?.statistics?;
            let known = Known {
                relay: *relay,
                truth: truth.value() as f64,
                measured: statistics.median.value() as f64,
            };
            (known.truth > 0.0 && known.measured > 0.0).then_some(known)
        })
        .collect()
}

/// The standard deviation of ln(measured/true).
fn spread(known: &[Known]) -> f64 {
    let count = known.len() as f64;
    let logs = || known.iter().map(|relay| relay.ratio().ln());
    let mean = logs().sum::<f64>() / count;
    let squares: f64 = logs().map(|log| (log - mean).powi(2)).sum();
    (squares / (count - 1.0).max(1.0)).sqrt()
}

/// Half of the sum of what shares differ by (total variation).
fn weight_error(known: &[Known]) -> f64 {
    let truth: f64 = known.iter().map(|relay| relay.truth).sum();
    let measured: f64 = known.iter().map(|relay| relay.measured).sum();
    let differences = known
        .iter()
        .map(|relay| (relay.measured / measured - relay.truth / truth).abs());
    differences.sum::<f64>() / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_of_shares() {
        let relay = |truth, measured| Known {
            relay: Fingerprint::from_bytes([1; 20]),
            truth,
            measured,
        };
        // The same factor for all is no error.
        let known = [relay(10.0, 9.0), relay(30.0, 27.0)];
        assert!(spread(&known) < 1e-12 && weight_error(&known) < 1e-12);
        // 3/4 and 1/4 in place of halves.
        let known = [relay(10.0, 15.0), relay(10.0, 5.0)];
        assert!((weight_error(&known) - 0.25).abs() < 1e-12);
        assert!((spread(&known) - 3.0_f64.ln() / 2.0_f64.sqrt()).abs() < 1e-12);
    }
}
