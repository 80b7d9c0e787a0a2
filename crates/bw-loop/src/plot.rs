//! Figures over the days, as SVG.

use std::path::Path;

use plotters::prelude::*;

use crate::run::{Day, Run};

/// Why a plot was not made.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct PlotError(String);

/// Curves that can be drawn: file name, what the axis says, and the value of a day.
type Figure = (&'static str, &'static str, fn(&Day) -> Option<f64>);

const FIGURES: [Figure; 4] = [
    ("nwe", "network weight error of honest relays", |day| {
        Some(day.nwe)
    }),
    ("swing", "change of the weights from day to day", |day| {
        Some(day.swing)
    }),
    ("rates", "median rate of clients' circuits, MB/s", |day| {
        Some(day.median_rate / 1e6)
    }),
    ("gain", "attackers' weight over their true share", |day| {
        day.gain
    }),
];

/// Draws the days of all runs into SVG files in `directory`: error, swing,
/// clients' rates and the attackers' gain, as far as there is one. Returns the files' names.
///
/// # Errors
/// If a file cannot be written.
pub fn plot(runs: &[Run], directory: &Path) -> Result<Vec<String>, PlotError> {
    let mut files = Vec::new();
    for (name, label, value) in FIGURES {
        let lines: Vec<_> = runs.iter().filter_map(|run| line(run, value)).collect();
        if lines.is_empty() {
            continue;
        }
        let file = format!("{name}.svg");
        let path = directory.join(&file);
        let failed = |error: &dyn std::fmt::Display| {
            PlotError(format!(
                "{}: the plot cannot be written: {error}",
                path.display()
            ))
        };
        draw(&path, label, &lines).map_err(|error| failed(&error))?;
        files.push(file);
    }
    Ok(files)
}

/// A run's label and points.
struct Line {
    label: String,
    points: Vec<(f64, f64)>,
}

fn line(run: &Run, value: fn(&Day) -> Option<f64>) -> Option<Line> {
    let points = run.days.iter();
    let points: Vec<_> = points
        .filter_map(|day| Some((f64::from(day.day), value(day)?)))
        .collect();
    let label = format!(
        "{}, {:.0} % used, attack: {}",
        run.method,
        run.utilisation * 100.0,
        run.attack
    );
    (!points.is_empty()).then_some(Line { label, points })
}

fn draw(path: &Path, label: &str, lines: &[Line]) -> Result<(), Box<dyn std::error::Error>> {
    let area = SVGBackend::new(path, (960, 540)).into_drawing_area();
    area.fill(&WHITE)?;
    let points = || lines.iter().flat_map(|line| &line.points);
    let most = |value: fn(&(f64, f64)) -> f64| points().map(value).fold(0.0, f64::max);
    let (days, top) = (
        most(|point| point.0).max(1.0),
        most(|point| point.1).max(1e-6),
    );
    let mut chart = ChartBuilder::on(&area)
        .margin(15)
        .x_label_area_size(40)
        .y_label_area_size(70)
        .build_cartesian_2d(0.0..days, 0.0..top * 1.05)?;
    chart
        .configure_mesh()
        .x_desc("day")
        .y_desc(label)
        .light_line_style(TRANSPARENT)
        .draw()?;
    for (index, line) in lines.iter().enumerate() {
        let style = Palette99::pick(index).stroke_width(2);
        let series = LineSeries::new(line.points.iter().copied(), style);
        chart
            .draw_series(series)?
            .label(line.label.as_str())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], style));
    }
    chart
        .configure_series_labels()
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK)
        .draw()?;
    area.present()?;
    Ok(())
}
