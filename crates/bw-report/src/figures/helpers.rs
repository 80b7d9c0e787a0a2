//! The effect that each helper has on rates.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use bw_file::Fingerprint;
use plotters::prelude::*;

use super::{FEWEST, Figure};
use crate::chart::{
    Area, Axis, Drawn, HEIGHT, INK, around, cloud, frame, marks, number_label, picture, rate_label,
};
use crate::format::{grouped, quantile};
use crate::records::Records;
use crate::site::Facts;

/// A helper that takes a fifth from rates, or adds it, is worth a look.
const NOTABLE: std::ops::RangeInclusive<f64> = 0.8..=1.25;

/// A helper, with the rates of relays that it helped.
struct Helper {
    fingerprint: Fingerprint,
    /// Bytes per second, by what was measured of itself.
    own: f64,
    uses: usize,
    /// The median of rates over the same relays' medians.
    effect: f64,
}

/// Rates through a helper, each over the median of all rates of the same relay, by the helper's
/// own rate. A slow or busy helper lies below 1.
pub(super) fn effect(facts: &Facts, records: &Records) -> Option<Figure> {
    let helpers = helpers(facts, records);
    if helpers.len() < FEWEST {
        return None;
    }
    let x = around(helpers.iter().map(|helper| helper.own), 0..11);
    let draw = |area: &Area<'_>| -> Drawn {
        let mut chart = frame(
            area,
            Axis::log(x.clone(), "the helper, measured itself", &rate_label),
            Axis::log(0.2..5.0, "rates through it", &number_label),
        )?;
        chart.draw_series(LineSeries::new(
            [(x.start, 1.0), (x.end, 1.0)],
            INK.mix(0.6),
        ))?;
        let places = helpers.iter();
        let places: Vec<_> = places
            .map(|helper| (helper.own, helper.effect.clamp(0.2, 4.9)))
            .collect();
        cloud(&mut chart, &places)
    };
    let mut data = "fingerprint,measured_bytes_per_second,rates,median_ratio\n".to_owned();
    for helper in &helpers {
        let Helper {
            fingerprint,
            own,
            uses,
            effect,
        } = helper;
        let _ = writeln!(data, "{fingerprint},{own},{uses},{effect}");
    }
    let notable = helpers
        .iter()
        .filter(|helper| !NOTABLE.contains(&helper.effect))
        .count();
    Some(Figure {
        name: "helpers",
        title: "Effect of helpers",
        caption: format!(
            "{} helpers of {FEWEST} rates or more{}. Each rate is divided by the median of the same relay, and the mark \
             is the median of a helper. {} of them lie below 0.8 or above 1.25.",
            grouped(helpers.len()),
            marks(helpers.len()),
            grouped(notable as u64)
        ),
        height: HEIGHT,
        picture: picture(HEIGHT, draw),
        data,
    })
}

fn helpers(facts: &Facts, records: &Records) -> Vec<Helper> {
    let mut ratios: BTreeMap<Fingerprint, Vec<f64>> = BTreeMap::new();
    for (_, relay) in records.relays() {
        let accepted = relay.measured.iter();
        let accepted = accepted.filter(|attempt| attempt.verdict.gives_rate());
        let rates: Vec<_> = accepted
            .filter_map(|attempt| Some((attempt.rate()?, &attempt.helpers)))
            .collect();
        let mut sorted: Vec<f64> = rates.iter().map(|(rate, _)| *rate).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        // One rate is its own median.
        let Some(median) = quantile(&sorted, 0.5).filter(|_| sorted.len() > 1) else {
            continue;
        };
        for (rate, helpers) in rates {
            for helper in helpers {
                ratios.entry(*helper).or_default().push(rate / median);
            }
        }
    }
    let own = |fingerprint: &Fingerprint| {
        let statistics = facts.aggregates.relay(fingerprint)?.statistics?;
        Some(statistics.median.value() as f64).filter(|rate| *rate > 0.0)
    };
    ratios
        .into_iter()
        .filter(|(_, ratios)| ratios.len() >= FEWEST)
        .filter_map(|(fingerprint, mut ratios)| {
            ratios.sort_unstable_by(f64::total_cmp);
            Some(Helper {
                own: own(&fingerprint)?,
                fingerprint,
                uses: ratios.len(),
                effect: quantile(&ratios, 0.5)?,
            })
        })
        .collect()
}
