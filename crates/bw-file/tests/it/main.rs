//! Tests of the crate from outside.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "these are tests")]

mod corpus;
mod hostile;
mod interop;
mod oracle;
mod properties;
mod replay;
#[cfg(feature = "json")]
mod schema;
mod shared;
mod writers;
