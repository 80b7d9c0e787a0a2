//! One attempt at a relay, as small as a page needs it: a store of a month has
//! hundreds of thousands.

use bw_aggregate::Use;
use bw_file::Fingerprint;
use bw_results::{
    Blame, FailureKind, Measurement, Outcome, Position, Stage, StopReason, Transfer, UnixMillis,
    Verdict,
};

use crate::interval::half_width;

/// Bars of a graph at most; slices beyond that are put together.
const BARS: usize = 32;

/// The most bytes kept of a failure's detail.
const DETAIL: usize = 160;

/// The part of an attempt that is shown.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    pub(crate) started: UnixMillis,
    pub(crate) ended: UnixMillis,
    /// Places in the lists of [`Records`](crate::Records).
    pub(crate) scanner: u16,
    pub(crate) destination: u16,
    pub(crate) position: Position,
    pub(crate) helpers: Box<[Fingerprint]>,
    pub(crate) bytes: u64,
    pub(crate) verdict: Verdict,
    pub(crate) r#use: Use,
    pub(crate) result: Result<Measured, Box<Failed>>,
}

/// The part of a measurement that is shown.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    /// Bytes per second; the mean if there are several transfers.
    pub(crate) rate: Option<f64>,
    /// Half of the rate's 95 % interval, as a share of it.
    pub(crate) half_width: Option<f32>,
    pub(crate) bound: Option<Blame>,
    /// It ended in a burst: its rate is what the relay's token bucket sustains.
    pub(crate) bursts: bool,
    pub(crate) offered: Option<u64>,
    pub(crate) stop: Option<StopReason>,
    /// The share of its time in which the link withheld something.
    pub(crate) throttled: f32,
    pub(crate) graph: Graph,
}

/// The part of a failure that is shown.
#[derive(Clone, Debug)]
pub(crate) struct Failed {
    pub(crate) stage: Stage,
    pub(crate) kind: FailureKind,
    pub(crate) blame: Blame,
    pub(crate) detail: Box<str>,
}

/// The rate of a transfer over time, in bars.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Graph {
    pub(crate) bars: Box<[Bar]>,
    /// The highest, in bytes per second.
    pub(crate) peak: f32,
    /// Seconds in all.
    pub(crate) seconds: f32,
}

/// The rate in a part of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bar {
    /// From 0 to 100, the peak.
    pub(crate) height: u8,
    pub(crate) kind: BarKind,
}

/// The worth of a bar's rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BarKind {
    Counted,
    /// Warm-up or cool-down.
    LeftOut,
    /// The scanner's link withheld something.
    Throttled,
}

impl Attempt {
    pub(crate) fn new(
        scanner: u16,
        destination: u16,
        outcome: &Outcome,
        verdict: Verdict,
        r#use: Use,
    ) -> Self {
        let attempt = outcome.attempt();
        Self {
            started: attempt.started,
            ended: outcome.ended(),
            scanner,
            destination,
            position: attempt.position,
            helpers: attempt.helpers.as_slice().into(),
            bytes: outcome.bytes(),
            verdict,
            r#use,
            result: match outcome {
                Outcome::Measured(measurement) => Ok(Measured::new(measurement)),
                Outcome::Failed(failure) => Err(Box::new(Failed {
                    stage: failure.stage,
                    kind: failure.kind,
                    blame: failure.blame,
                    detail: failure.detail[..failure.detail.floor_char_boundary(DETAIL)].into(),
                })),
            },
        }
    }

    /// Its rate, if it counts or is a lower bound.
    pub(crate) fn rate(&self) -> Option<f64> {
        let measured = self.result.as_ref().ok()?;
        measured.rate.filter(|_| self.verdict.is_measured())
    }
}

impl Measured {
    fn new(measurement: &Measurement) -> Self {
        let rates: Vec<f64> = measurement.rates().collect();
        let longest = measurement
            .transfers
            .iter()
            .max_by_key(|transfer| transfer.duration());
        Self {
            rate: (!rates.is_empty()).then(|| rates.iter().sum::<f64>() / rates.len() as f64),
            half_width: longest
                .filter(|transfer| transfer.sustains.is_none())
                .and_then(|transfer| half_width(transfer.counted()))
                .map(|share| share as f32),
            bound: measurement.bound(),
            bursts: longest.is_some_and(|transfer| transfer.sustains.is_some()),
            offered: measurement.offered.map(bw_file::BytesPerSecond::value),
            stop: longest.map(|transfer| transfer.stop),
            throttled: measurement.throttled_share() as f32,
            graph: longest.map(Graph::new).unwrap_or_default(),
        }
    }
}

impl Graph {
    pub(crate) fn new(transfer: &Transfer) -> Self {
        let slices = &transfer.slices;
        let per_bar = slices.len().div_ceil(BARS).max(1);
        let counted = transfer.warm_up..slices.len().saturating_sub(transfer.cool_down);
        let rates: Vec<(f64, BarKind)> = slices
            .chunks(per_bar)
            .enumerate()
            .map(|(index, chunk)| {
                let micros: u64 = chunk
                    .iter()
                    .map(|slice| slice.micros)
                    .fold(0, u64::saturating_add);
                let bytes: u64 = chunk
                    .iter()
                    .map(|slice| slice.bytes)
                    .fold(0, u64::saturating_add);
                let middle = index * per_bar + chunk.len() / 2;
                let kind = if chunk.iter().any(bw_results::Slice::is_throttled) {
                    BarKind::Throttled
                } else if counted.contains(&middle) {
                    BarKind::Counted
                } else {
                    BarKind::LeftOut
                };
                (bytes as f64 * 1e6 / micros.max(1) as f64, kind)
            })
            .collect();
        let peak = rates.iter().map(|bar| bar.0).fold(0.0, f64::max);
        let bars = rates.into_iter().map(|(rate, kind)| Bar {
            height: (rate / peak.max(1.0) * 100.0).round() as u8,
            kind,
        });
        Self {
            bars: bars.collect(),
            peak: peak as f32,
            seconds: transfer.duration().as_secs_f32(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bw_results::Slice;

    use super::*;

    #[test]
    fn a_graph_has_a_bar_for_each_slice_or_for_several() {
        let slice = |bytes| Slice::new(Duration::from_millis(50), bytes);
        let slices = vec![
            slice(10),
            slice(1000),
            slice(500).with_throttled(1),
            slice(250),
        ];
        let graph = Graph::new(&Transfer::new(slices, 1, StopReason::Complete).ending_at(1));
        let bars: Vec<_> = graph
            .bars
            .iter()
            .map(|bar| (bar.height, bar.kind))
            .collect();
        assert_eq!(
            bars,
            [
                (1, BarKind::LeftOut),
                (100, BarKind::Counted),
                (50, BarKind::Throttled),
                (25, BarKind::LeftOut),
            ]
        );
        assert_eq!((graph.peak, graph.seconds), (20_000.0, 0.2));
        let many = Transfer::new(vec![slice(7); 200], 20, StopReason::TimeLimit);
        let graph = Graph::new(&many);
        assert_eq!(graph.bars.len(), 29);
        assert!(graph.bars.iter().all(|bar| bar.height == 100));
        let none = Graph::new(&Transfer::new(vec![], 0, StopReason::Complete));
        assert_eq!(none, Graph::default());
    }
}
