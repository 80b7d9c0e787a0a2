#![doc = include_str!("../README.md")]

mod certificate;
mod patient;
mod receive;
mod seats;
mod send;
mod server;
mod throttle;

pub use bw_protocol::{ContentKey, KeyError};
pub use certificate::{Certificate, CertificateError};
pub use server::FileServer;
