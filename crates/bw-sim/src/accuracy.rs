//! The distance of estimates from the truth.

/// The distance of the estimates of a network's relays from the truth.
///
/// The metrics are those of the literature: σ as in studies of repeatability,
/// and the network weight error of FlashFlow (Traudt, Jansen and Johnson, 2020).
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Accuracy {
    /// Relays that were compared.
    pub relays: usize,
    /// The median of estimate over truth.
    pub ratio: f64,
    /// 1.4826 times the median absolute deviation of ln(estimate / truth):
    /// the standard deviation, if errors are normal.
    pub sigma: f64,
    /// ½ Σ |share of the estimates − share of the truth|, from 0 to 1: how much
    /// of the traffic would go to the wrong relays.
    pub nwe: f64,
    /// The median of |estimate / truth / ratio − 1|.
    pub off: f64,
}

impl Accuracy {
    /// Compares pairs of estimate and truth; those that are not positive are
    /// left out. `None` without any.
    pub fn of(pairs: impl IntoIterator<Item = (f64, f64)>) -> Option<Self> {
        let positive = |value: f64| value.is_finite() && value > 0.0;
        let pairs: Vec<(f64, f64)> = pairs
            .into_iter()
            .filter(|&(estimate, truth)| positive(estimate) && positive(truth))
            .collect();
        let logs = || {
            pairs
                .iter()
                .map(|(estimate, truth)| (estimate / truth).ln())
        };
        let middle = median(logs().collect())?;
        let spread = median(logs().map(|log| (log - middle).abs()).collect())?;
        let off = median(
            logs()
                .map(|log| ((log - middle).exp() - 1.0).abs())
                .collect(),
        )?;
        let estimates: f64 = pairs.iter().map(|(estimate, _)| estimate).sum();
        let truths: f64 = pairs.iter().map(|(_, truth)| truth).sum();
        let differences = pairs
            .iter()
            .map(|(estimate, truth)| (estimate / estimates - truth / truths).abs());
        Some(Self {
            relays: pairs.len(),
            ratio: middle.exp(),
            sigma: 1.4826 * spread,
            nwe: differences.sum::<f64>() / 2.0,
            off,
        })
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_common_factor_is_no_error() {
        let accuracy = Accuracy::of((1..=9).map(|n| (f64::from(n) * 0.8, f64::from(n)))).unwrap();
        assert!((accuracy.ratio - 0.8).abs() < 1e-9);
        assert!(accuracy.sigma < 1e-9 && accuracy.nwe < 1e-9 && accuracy.off < 1e-9);
    }

    #[test]
    fn errors_are_counted_by_weight() {
        // 10 of 40 are at one relay instead of at the other.
        let accuracy = Accuracy::of([(30.0, 20.0), (10.0, 20.0)]).unwrap();
        assert!((accuracy.nwe - 0.25).abs() < 1e-9);
        assert_eq!(Accuracy::of([(0.0, 1.0), (f64::NAN, 1.0)]), None);
    }
}
