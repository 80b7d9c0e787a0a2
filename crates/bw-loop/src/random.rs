//! Random numbers that several parts need.

use rand::RngExt;
use statrs::distribution::{ContinuousCDF, Normal};

/// A number from the standard normal distribution.
pub(crate) fn normal(rng: &mut impl rand::Rng) -> f64 {
    Normal::standard().inverse_cdf(rng.random_range(1e-9..1.0 - 1e-9))
}
