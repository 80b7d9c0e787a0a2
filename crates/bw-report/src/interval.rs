//! The interval of a measured rate, by the slices that count.

use bw_results::Slice;

/// Slices are taken together to batches of this length, in microseconds, whose means are nearly
/// independent; fewer than four tell nothing. Both are the estimator's (docs/estimator.md).
const BATCH: u64 = 250_000;
const FEWEST: usize = 4;

/// Half of the rate's 95 % interval, as a share of the rate.
pub(crate) fn half_width(counted: &[Slice]) -> Option<f64> {
    let length = counted.first()?.micros.max(1);
    let per_batch = usize::try_from(BATCH.div_ceil(length)).ok()?;
    let batches = counted.chunks_exact(per_batch);
    let rates: Vec<f64> = batches
        .map(|batch| Slice::rate_of(batch).unwrap_or(0.0))
        .collect();
    if rates.len() < FEWEST {
        return None;
    }
    let count = rates.len() as f64;
    let mean = rates.iter().sum::<f64>() / count;
    let squares: f64 = rates.iter().map(|rate| (rate - mean).powi(2)).sum();
    let error = (squares / (count - 1.0) / count).sqrt();
    (mean > 0.0).then(|| student(count - 1.0) * error / mean)
}

/// The factor of a 95 % interval by Student's t with so many degrees of freedom, within 1 % from
/// three on (Cornish and Fisher's expansion).
fn student(freedom: f64) -> f64 {
    const Z: f64 = 1.959_964;
    let first = (Z.powi(3) + Z) / 4.0;
    let second = (5.0 * Z.powi(5) + 16.0 * Z.powi(3) + 3.0 * Z) / 96.0;
    let third = (3.0 * Z.powi(7) + 19.0 * Z.powi(5) + 17.0 * Z.powi(3) - 15.0 * Z) / 384.0;
    Z + first / freedom + second / freedom.powi(2) + third / freedom.powi(3)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn factors_are_students() {
        // From tables.
        for (freedom, factor) in [(3.0, 3.182), (5.0, 2.571), (9.0, 2.262), (30.0, 2.042)] {
            assert!((student(freedom) / factor - 1.0).abs() < 0.01, "{freedom}");
        }
    }

    #[test]
    fn an_interval_is_of_batches() {
        let slices = |rates: [u64; 4]| -> Vec<Slice> {
            let slice = |rate: u64| Slice::new(Duration::from_millis(50), rate);
            rates
                .into_iter()
                .flat_map(|rate| [slice(rate); 5])
                .collect()
        };
        assert_eq!(half_width(&slices([100; 4])), Some(0.0));
        // Mean 100, standard error 5.77.
        let half = half_width(&slices([90, 110, 90, 110])).unwrap();
        assert!((half - 3.182 * 0.0577).abs() < 0.002, "{half}");
        assert_eq!(half_width(&slices([100; 4])[..15]), None);
        assert_eq!(half_width(&slices([0; 4])), None);
        assert_eq!(half_width(&[]), None);
    }
}
