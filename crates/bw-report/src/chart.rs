//! Pictures: axes and marks by plotters, colours that follow the reader's light
//! or dark screen.

use std::collections::BTreeMap;
use std::ops::Range;

use plotters::coord::Shift;
use plotters::coord::combinators::WithKeyPoints;
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;

use crate::format::{grouped, rate};

/// Size of a picture, in units of the drawing: two lie side by side on a desk, and letters can
/// be read on a telephone.
pub(crate) const WIDTH: u32 = 640;
pub(crate) const HEIGHT: u32 = 380;
/// Size of letters; in a picture they are four fifths of it.
const LETTERS: i32 = 17;

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

/// A picture of [`WIDTH`] and `height` that `draw` draws; drawing into memory does not fail.
pub(crate) fn picture(height: u32, draw: impl FnOnce(&Area<'_>) -> Drawn) -> String {
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, (WIDTH, height)).into_drawing_area();
        let _ = draw(&area);
        let _ = area.present();
    }
    match text.find('>') {
        Some(end) => format!("{}{DARK}{}", &text[..=end], &text[end + 1..]),
        None => text,
    }
}

/// The style of text.
pub(crate) fn letters() -> TextStyle<'static> {
    ("sans-serif", LETTERS).into_font().color(&INK)
}

/// One axis: its range, its name, and how its numbers are written. A vertical axis
/// without a name is not drawn: there is room for the names of rows.
pub(crate) struct Axis<'a, R> {
    range: R,
    name: &'a str,
    label: &'a dyn Fn(&f64) -> String,
}

impl<'a, R> Axis<'a, R> {
    pub(crate) fn new(range: R, name: &'a str, label: &'a dyn Fn(&f64) -> String) -> Self {
        Self { range, name, label }
    }
}

/// The range of a logarithmic axis.
type LogAxis = WithKeyPoints<LogCoord<f64>>;

impl<'a> Axis<'a, LogAxis> {
    /// A logarithmic one, with numbers at powers of ten or, where these are few, at more [steps].
    pub(crate) fn log(range: Range<f64>, name: &'a str, label: &'a dyn Fn(&f64) -> String) -> Self {
        let digits: &[f64] = match range.end / range.start {
            ..3.0 => &TENTHS,
            ..900.0 => &STEPS,
            _ => &[1.0],
        };
        let points =
            steps(digits, -6..12).filter(|step| range.contains(step) || *step == range.end);
        let points = points.collect();
        Self::new(range.log_scale().with_key_points(points), name, label)
    }
}

/// The digits of round numbers.
const STEPS: [f64; 3] = [1.0, 2.0, 5.0];
/// Those of a range within a decade.
const TENTHS: [f64; 11] = [1.0, 1.2, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0];

/// Round numbers in rising order: `digits` times each power of ten.
fn steps(digits: &[f64], powers: Range<i32>) -> impl Iterator<Item = f64> {
    // By their text, so that 0.2 is 0.2.
    powers.flat_map(|power| {
        let number = move |digit: &f64| format!("{digit}e{power}").parse().unwrap_or(1.0);
        digits.iter().map(number)
    })
}

type Chart<'b, 'a, X, Y> = ChartContext<
    'b,
    SVGBackend<'a>,
    Cartesian2d<<X as AsRangedCoord>::CoordDescType, <Y as AsRangedCoord>::CoordDescType>,
>;

/// Room for the names of rows, at the left.
const ROW_NAME: u32 = 215;

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
    // Numbers of a low picture keep their distance, too.
    let numbers = (area.dim_in_pixel().1 / 45).clamp(2, 8) as usize;
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .margin_right(32)
        .x_label_area_size(50)
        .y_label_area_size(if has_names { 92 } else { ROW_NAME })
        .build_cartesian_2d(x.range, y.range)?;
    let mut mesh = chart.configure_mesh();
    mesh.light_line_style(TRANSPARENT)
        .bold_line_style(FAINT)
        .axis_style(INK)
        .label_style(letters())
        .axis_desc_style(letters())
        .x_desc(x.name)
        .x_labels(8)
        .y_labels(numbers)
        .x_label_formatter(x.label);
    if has_names {
        mesh.y_desc(y.name).y_label_formatter(y.label);
    } else {
        mesh.disable_y_mesh().disable_y_axis();
    }
    mesh.draw()?;
    Ok(chart)
}

/// Up to so many points are drawn one by one.
const FEW: usize = 300;

/// Points in a plane of logarithms: a mark each, or for many a cell that is stronger where there
/// are more.
pub(crate) fn cloud(chart: &mut Chart<'_, '_, LogAxis, LogAxis>, points: &[(f64, f64)]) -> Drawn {
    /// Cells of a decade: some 25 % wide.
    const CELLS: f64 = 10.0;
    if points.len() <= FEW {
        let mark = |point: &(f64, f64)| Circle::new(*point, 4, ACCENT.mix(0.6).filled());
        chart.draw_series(points.iter().map(mark))?;
        return Ok(());
    }
    let cell = |value: f64| (value.log10() * CELLS).floor() as i64;
    let mut cells: BTreeMap<(i64, i64), u64> = BTreeMap::new();
    for (x, y) in points {
        *cells.entry((cell(*x), cell(*y))).or_default() += 1;
    }
    let most = cells.values().copied().max().unwrap_or(1) as f64;
    let from = |cell: i64| 10_f64.powf(cell as f64 / CELLS);
    chart.draw_series(cells.iter().map(|(&(column, row), &count)| {
        let shade = 0.2 + 0.8 * (count as f64).ln_1p() / most.ln_1p();
        let corners = [(from(column), from(row)), (from(column + 1), from(row + 1))];
        Rectangle::new(corners, ACCENT.mix(shade).filled())
    }))?;
    Ok(())
}

/// The way in which [`cloud`] draws so many points, in words.
pub(crate) const fn marks(points: usize) -> &'static str {
    if points <= FEW {
        ", one mark each"
    } else {
        "; colour is stronger where there are more"
    }
}

/// Bytes per second at an axis.
pub(crate) fn rate_label(value: &f64) -> String {
    let text = rate(*value);
    match text.split_once('\u{a0}') {
        Some((number, unit)) => format!("{}\u{a0}{unit}", short(number)),
        None => text,
    }
}

/// A number at an axis.
pub(crate) fn number_label(value: &f64) -> String {
    if *value >= 1000.0 {
        return grouped(value.round());
    }
    short(&format!("{value:.4}")).to_owned()
}

/// A number without zeros at its end that say nothing.
fn short(number: &str) -> &str {
    if number.contains('.') {
        number.trim_end_matches('0').trim_end_matches('.')
    } else {
        number
    }
}

/// The round numbers around positive values, from one power of ten up to another.
pub(crate) fn around(values: impl Iterator<Item = f64>, powers: Range<i32>) -> Range<f64> {
    let (mut low, mut high) = (f64::INFINITY, 0.0_f64);
    for value in values.filter(|value| *value > 0.0 && value.is_finite()) {
        (low, high) = (low.min(value), high.max(value));
    }
    if low > high {
        return 1.0..10.0;
    }
    let steps: Vec<f64> = steps(&STEPS, powers).collect();
    let first = steps.partition_point(|step| *step <= low).saturating_sub(1);
    let first = first.min(steps.len() - 2);
    let last = steps.partition_point(|step| *step < high);
    steps[first]..steps[last.clamp(first + 1, steps.len() - 1)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_round_numbers() {
        let range = |values: &[f64]| around(values.iter().copied(), -2..11);
        assert_eq!(range(&[0.0, 1500.0, 41_000.0]), 1e3..5e4);
        assert_eq!(range(&[100.0]), 100.0..200.0);
        assert_eq!(range(&[0.3, 0.7]), 0.2..1.0);
        assert_eq!(range(&[1e-9, 1e20]), 0.01..5e10);
        assert_eq!(range(&[1e20]), 2e10..5e10);
        assert_eq!(range(&[]), 1.0..10.0);
    }

    #[test]
    fn numbers_at_an_axis_are_short() {
        let shown = [0.1 + 0.05, 12.0, 0.0, 1.5, 200.0, 150_000.0];
        assert_eq!(
            shown.map(|value| number_label(&value)),
            ["0.15", "12", "0", "1.5", "200", "150,000"]
        );
        let shown =
            [2.5e6, 3e6, 1e7, 2e5, 0.0].map(|value| rate_label(&value).replace('\u{a0}', " "));
        assert_eq!(
            shown,
            ["2.5 MB/s", "3 MB/s", "10 MB/s", "200 kB/s", "0 B/s"]
        );
    }

    #[test]
    fn pictures_follow_the_screen() {
        let text = picture(HEIGHT, |area| {
            area.draw(&Rectangle::new([(0, 0), (5, 5)], ACCENT.filled()))?;
            Ok(())
        });
        assert!(text.starts_with("<svg ") && text.contains("prefers-color-scheme"));
        assert!(text.contains("fill=\"#6B3F91\""), "{text}");
    }
}
