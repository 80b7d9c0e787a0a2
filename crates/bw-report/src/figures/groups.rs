//! Ratios of measured to advertised rates, group by group.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::{FEWEST, Figure, GROUPS, Point};
use crate::chart::{ACCENT, Area, Axis, Drawn, INK, around, frame, letters, number_label, picture};
use crate::format::{factor, grouped, quantile};

/// Height of a row, and of what is around all of them.
const ROW: u32 = 44;
const AROUND: u32 = 80;

/// The ratios of a group's relays.
struct Group {
    name: String,
    relays: usize,
    /// A tenth, a quarter, the median, three quarters and nine tenths are below these.
    quantiles: [f64; 5],
}

/// Quantiles of the ratio in the largest groups of relays; nothing unless two groups
/// are large enough to compare.
pub(super) fn by_group<'p>(
    name: &'static str,
    title: &'static str,
    points: &'p [Point],
    group: impl Fn(&'p Point) -> &'p str,
) -> Option<Figure> {
    let groups = groups(points, group);
    if groups.len() < 2 {
        return None;
    }
    let mut data = "group,relays,p10,p25,median,p75,p90\n".to_owned();
    for group in &groups {
        let [low, quarter, median, three, high] = group.quantiles;
        let _ = writeln!(
            data,
            "{},{},{low},{quarter},{median},{three},{high}",
            group.name, group.relays
        );
    }
    let median = |group: &Group| format!("{} {}", group.name, factor(group.quantiles[2]));
    let medians: Vec<String> = groups.iter().map(median).collect();
    let height = AROUND + ROW * u32::try_from(groups.len()).unwrap_or(1);
    Some(Figure {
        name,
        title,
        caption: format!(
            "Thin: a tenth to nine tenths of the relays; thick: the middle half; the mark is the median: {}.",
            medians.join(", ")
        ),
        height,
        picture: picture(height, |area| draw(area, &groups)),
        data,
    })
}

fn groups<'p>(points: &'p [Point], group: impl Fn(&'p Point) -> &'p str) -> Vec<Group> {
    let mut ratios: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for point in points {
        ratios.entry(group(point)).or_default().push(point.ratio());
    }
    ratios.retain(|name, ratios| !name.is_empty() && ratios.len() >= FEWEST);
    let mut groups: Vec<Group> = ratios
        .into_iter()
        .map(|(name, mut ratios)| {
            ratios.sort_unstable_by(f64::total_cmp);
            let at = |share| quantile(&ratios, share).unwrap_or(0.0);
            Group {
                name: name.to_owned(),
                relays: ratios.len(),
                quantiles: [0.1, 0.25, 0.5, 0.75, 0.9].map(at),
            }
        })
        .collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.relays));
    groups.truncate(GROUPS);
    groups
}

fn draw(area: &Area<'_>, groups: &[Group]) -> Drawn {
    // Where all of it is measured belongs to the picture.
    let values = groups.iter().flat_map(|group| group.quantiles).chain([1.0]);
    let x = around(values, -4..5);
    let count = groups.len() as f64;
    let mut chart = frame(
        area,
        Axis::log(x, "measured / advertised", &number_label),
        Axis::new(0.0..count, "", &number_label),
    )?;
    chart.draw_series(LineSeries::new([(1.0, 0.0), (1.0, count)], INK.mix(0.6)))?;
    let beside = letters().pos(Pos::new(HPos::Right, VPos::Center));
    for (index, group) in groups.iter().enumerate() {
        let [low, quarter, median, three, high] = group.quantiles;
        let middle = count - index as f64 - 0.5;
        let bar = |from: f64, to: f64, half: f64| [(from, middle - half), (to, middle + half)];
        chart.draw_series([
            Rectangle::new(bar(low, high, 0.04), ACCENT.mix(0.6).filled()),
            Rectangle::new(bar(quarter, three, 0.2), ACCENT.mix(0.6).filled()),
        ])?;
        let mark = [(median, middle - 0.28), (median, middle + 0.28)];
        chart.draw_series([PathElement::new(mark, INK.stroke_width(3))])?;
        let (_, y) = chart.backend_coord(&(median, middle));
        let left = chart.plotting_area().get_pixel_range().0.start;
        let label = format!("{} ({})", group.name, grouped(group.relays));
        area.draw(&Text::new(label, (left - 10, y), beside.clone()))?;
    }
    Ok(())
}
