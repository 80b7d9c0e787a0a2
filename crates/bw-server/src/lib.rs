#![doc = include_str!("../README.md")]

mod answer;
mod certificate;
mod patient;
mod places;
mod receive;
mod send;
mod server;
mod statistics;
mod throttle;

pub use bw_protocol::{ContentKey, KeyError};
pub use certificate::{Certificate, CertificateError};
pub use server::{ConnectionLimits, FileServer};
pub use statistics::{Counts, Statistics};
