//! Examples and cross-crate tests of bwscan; see `examples/` and `tests/`.
