//! Tests of the crate from outside.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "these are tests")]

mod oracle;
mod shared;
