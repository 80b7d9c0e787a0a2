//! Small graphs within pages, drawn by hand: a row of bars is 300 bytes.

use std::fmt::Write as _;

use maud::{Markup, html};

use crate::attempt::{BarKind, Graph};
use crate::format::rate;

/// Width of a bar and height of the graph, in units of the drawing.
const BAR: usize = 4;
const HEIGHT: usize = 24;

/// A transfer's rate over time.
pub(crate) fn bars(graph: &Graph) -> Markup {
    if graph.bars.is_empty() {
        return html! {};
    }
    let width = graph.bars.len() * BAR;
    let throttled = graph
        .bars
        .iter()
        .filter(|bar| bar.kind == BarKind::Throttled)
        .count();
    let label = format!(
        "Rate over {:.1} s, at most {}{}",
        graph.seconds,
        rate(f64::from(graph.peak)),
        if throttled > 0 {
            format!(", {throttled} of {} bars throttled", graph.bars.len())
        } else {
            String::new()
        }
    );
    html! {
        svg.bars viewBox=(format!("0 0 {width} {HEIGHT}")) width=(width) height=(HEIGHT)
            role="img" aria-label=(label) {
            @for (kind, class) in [
                (BarKind::LeftOut, "o"), (BarKind::Counted, "c"), (BarKind::Throttled, "t"),
            ] {
                @let path = path(graph, kind);
                @if !path.is_empty() { path class=(class) d=(path) {} }
            }
        }
    }
}

/// One stroke per bar of this kind.
fn path(graph: &Graph, kind: BarKind) -> String {
    let mut path = String::new();
    for (index, bar) in graph.bars.iter().enumerate() {
        if bar.kind == kind {
            let height = (usize::from(bar.height) * HEIGHT).div_ceil(100).max(1);
            let _ = write!(path, "M{} {HEIGHT}v-{height}", index * BAR + BAR / 2);
        }
    }
    path
}

/// Values over time, the scale from 0 to the largest; `label` says what they are.
pub(crate) fn line(points: &[(u64, f64)], label: &str) -> Markup {
    const WIDTH: f64 = 600.0;
    const TALL: f64 = 80.0;
    let (Some(first), Some(last)) = (points.first(), points.last()) else {
        return html! {};
    };
    let top = points
        .iter()
        .map(|point| point.1)
        .fold(0.0, f64::max)
        .max(f64::MIN_POSITIVE);
    let length = last.0.saturating_sub(first.0).max(1) as f64;
    let mut path = String::new();
    let mut dots = String::new();
    for &(at, value) in points {
        let x = 4.0 + (at - first.0) as f64 / length * (WIDTH - 8.0);
        let y = TALL - 4.0 - value / top * (TALL - 8.0);
        let command = if path.is_empty() { 'M' } else { 'L' };
        let _ = write!(path, "{command}{x:.0} {y:.1}");
        let _ = write!(dots, "M{x:.0} {y:.1}h0");
    }
    html! {
        svg.line viewBox=(format!("0 0 {WIDTH} {TALL}")) role="img" aria-label=(label) {
            path.axis d=(format!("M0 {}H{WIDTH}", TALL - 1.0)) {}
            path.curve d=(path) {}
            path.dots d=(dots) {}
        }
    }
}
