#![doc = include_str!("../README.md")]

mod advice;
mod attempt;
mod bandwidth_file;
mod chart;
mod comparison;
mod directory;
mod family;
mod figures;
mod format;
mod graph;
mod history;
mod interval;
mod layout;
mod overview;
mod records;
mod relay;
mod round;
mod search;
mod site;

pub use bandwidth_file::BandwidthFile;
pub use records::Records;
pub use round::Round;
pub use site::{Address, Facts, Site};
