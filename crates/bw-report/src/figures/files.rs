//! Our own bandwidth files over time.

use std::fmt::Write as _;

use bw_results::UnixMillis;
use plotters::prelude::*;

use super::Figure;
use crate::bandwidth_file::BandwidthFile;
use crate::chart::{ACCENT, Area, Axis, Drawn, HEIGHT, frame, number_label, picture, rate_label};
use crate::format::{grouped, minute, rate};

/// The sum of weights and the number of relays, file by file; nothing of a single file.
pub(super) fn over_time(files: &[BandwidthFile]) -> Option<Figure> {
    let files: Vec<(UnixMillis, &BandwidthFile)> = files
        .iter()
        .filter_map(|file| Some((file.time()?, file)))
        .collect();
    let [(first, oldest), .., (last, newest)] = files[..] else {
        return None;
    };
    let sum = |file: &BandwidthFile| file.weights.total().to_bytes().value() as f64;
    let relays = |file: &BandwidthFile| file.weights.relays() as f64;
    let days = |time: UnixMillis| time.since(first).as_secs_f64() / 86_400.0;
    let length = days(last).max(1.0 / 24.0);
    let draw = |area: &Area<'_>| -> Drawn {
        let parts = area.split_evenly((2, 1));
        for (part, (value, name, label)) in parts.iter().zip([
            (
                &sum as &dyn Fn(&BandwidthFile) -> f64,
                "sum",
                &rate_label as &dyn Fn(&f64) -> String,
            ),
            (&relays, "relays", &number_label),
        ]) {
            let points = || files.iter().map(|(time, file)| (days(*time), value(file)));
            let top = points().map(|point| point.1).fold(1.0, f64::max) * 1.05;
            let mut chart = frame(
                part,
                Axis::new(0.0..length, "days", &number_label),
                Axis::new(0.0..top, name, label),
            )?;
            chart.draw_series(LineSeries::new(points(), ACCENT.stroke_width(2)))?;
            chart.draw_series(points().map(|point| Circle::new(point, 3, ACCENT.filled())))?;
        }
        Ok(())
    };
    let mut data = "made,weights_bytes_per_second,relays\n".to_owned();
    for (time, file) in &files {
        let _ = writeln!(data, "{},{},{}", minute(*time), sum(file), relays(file));
    }
    Some(Figure {
        name: "files",
        title: "Bandwidth files over time",
        caption: format!(
            "{} files from {} to {} UTC: the sum of their weights went from {} to {}, and their relays from {} to {}.",
            grouped(files.len()),
            minute(first),
            minute(last),
            rate(sum(oldest)),
            rate(sum(newest)),
            grouped(oldest.weights.relays()),
            grouped(newest.weights.relays())
        ),
        height: HEIGHT,
        picture: picture(HEIGHT, draw),
        data,
    })
}
