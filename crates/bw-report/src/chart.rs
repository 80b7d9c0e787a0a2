//! Pictures: axes and marks by plotters, colours that follow the reader's light
//! or dark screen.

use std::ops::Range;

use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;

use crate::format::rate;

/// Size of a picture, in units of the drawing.
const SIZE: (u32, u32) = (760, 440);

pub(crate) const INK: RGBColor = RGBColor(0x22, 0x22, 0x24);
pub(crate) const FAINT: RGBColor = RGBColor(0xDD, 0xDD, 0xE0);
pub(crate) const ACCENT: RGBColor = RGBColor(0x6B, 0x3F, 0x91);
pub(crate) const WARN: RGBColor = RGBColor(0xB4, 0x53, 0x09);

/// The same colours on a dark screen. What plotters writes as attributes, a
/// style overrides.
const DARK: &str = "<style>@media (prefers-color-scheme: dark){\
[fill=\"#222224\"]{fill:#e4e4e7}[stroke=\"#222224\"]{stroke:#e4e4e7}\
[fill=\"#DDDDE0\"]{fill:#3a3a40}[stroke=\"#DDDDE0\"]{stroke:#3a3a40}\
[fill=\"#6B3F91\"]{fill:#c4a1e6}[stroke=\"#6B3F91\"]{stroke:#c4a1e6}\
[fill=\"#B45309\"]{fill:#f0a35e}[stroke=\"#B45309\"]{stroke:#f0a35e}}</style>";

pub(crate) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
pub(crate) type Drawn = Result<(), Box<dyn std::error::Error>>;

/// A picture that `draw` draws; drawing into memory does not fail.
pub(crate) fn picture(draw: impl FnOnce(&Area<'_>) -> Drawn) -> String {
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        let _ = draw(&area);
        let _ = area.present();
    }
    match text.find('>') {
        Some(end) => format!("{}{DARK}{}", &text[..=end], &text[end + 1..]),
        None => text,
    }
}

/// The style of text.
pub(crate) fn letters(size: i32) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&INK)
}

/// One axis: its range, its name, and how its numbers are written. A vertical axis
/// without a name is not drawn.
pub(crate) struct Axis<'a, R> {
    pub(crate) range: R,
    pub(crate) name: &'a str,
    pub(crate) label: &'a dyn Fn(&f64) -> String,
}

impl<'a, R> Axis<'a, R> {
    pub(crate) fn new(range: R, name: &'a str, label: &'a dyn Fn(&f64) -> String) -> Self {
        Self { range, name, label }
    }
}

type Chart<'b, 'a, X, Y> = ChartContext<
    'b,
    SVGBackend<'a>,
    Cartesian2d<<X as AsRangedCoord>::CoordDescType, <Y as AsRangedCoord>::CoordDescType>,
>;

/// A frame with axes that are named, and faint lines.
pub(crate) fn frame<'a, 'b, X, Y>(
    area: &'b Area<'a>,
    x: Axis<'_, X>,
    y: Axis<'_, Y>,
) -> Result<Chart<'b, 'a, X, Y>, Box<dyn std::error::Error>>
where
    'a: 'b,
    X: AsRangedCoord<Value = f64>,
    Y: AsRangedCoord<Value = f64>,
    X::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
    Y::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let has_names = !y.name.is_empty();
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .margin_right(24)
        .x_label_area_size(44)
        .y_label_area_size(if has_names { 84 } else { 12 })
        .build_cartesian_2d(x.range, y.range)?;
    let mut mesh = chart.configure_mesh();
    mesh.light_line_style(TRANSPARENT)
        .bold_line_style(FAINT)
        .axis_style(INK)
        .label_style(letters(13))
        .axis_desc_style(letters(13))
        .x_desc(x.name)
        .x_labels(8)
        .y_labels(8)
        .x_label_formatter(x.label);
    if has_names {
        mesh.y_desc(y.name).y_label_formatter(y.label);
    } else {
        mesh.disable_y_mesh().disable_y_axis();
    }
    mesh.draw()?;
    Ok(chart)
}

/// Bytes per second at an axis.
pub(crate) fn rate_label(value: &f64) -> String {
    rate(*value).replace(".00", "").replace(".0", "")
}

/// A number at an axis.
pub(crate) fn number_label(value: &f64) -> String {
    format!("{value}")
}

/// The powers of ten around positive values; at least one decade.
pub(crate) fn decades(values: impl Iterator<Item = f64>, most: Range<i32>) -> Range<f64> {
    let (mut low, mut high) = (f64::INFINITY, 0.0_f64);
    for value in values.filter(|value| *value > 0.0 && value.is_finite()) {
        (low, high) = (low.min(value), high.max(value));
    }
    if low > high {
        return 1.0..10.0;
    }
    let first = (low.log10().floor() as i32).clamp(most.start, most.end - 1);
    let last = (high.log10().ceil() as i32).clamp(first + 1, most.end);
    10_f64.powi(first)..10_f64.powi(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_are_powers_of_ten() {
        assert_eq!(
            decades([0.0, 1500.0, 99_000.0].into_iter(), 0..12),
            1e3..1e5
        );
        assert_eq!(decades([100.0].into_iter(), 0..12), 100.0..1000.0);
        assert_eq!(decades([1e-9, 1e20].into_iter(), 0..10), 1.0..1e10);
        assert_eq!(decades(std::iter::empty(), 0..10), 1.0..10.0);
    }

    #[test]
    fn pictures_follow_the_screen() {
        let text = picture(|area| {
            area.draw(&Rectangle::new([(0, 0), (5, 5)], ACCENT.filled()))?;
            Ok(())
        });
        assert!(text.starts_with("<svg ") && text.contains("prefers-color-scheme"));
        assert!(text.contains("fill=\"#6B3F91\""), "{text}");
    }
}
