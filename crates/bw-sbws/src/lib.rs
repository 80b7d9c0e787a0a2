#![doc = include_str!("../README.md")]

mod config;
mod error;
mod export;
mod generate;
mod home;
mod import;
mod line;
mod state;
mod stored;
mod times;

pub use config::{Config, Converted};
pub use error::{Error, ErrorKind, Result};
pub use export::export;
pub use generate::{GenerateError, Generator, Header, Options, Scaling, Version};
pub use home::{Home, ResultFile};
pub use import::{ImportReport, Problem};
pub use line::{Download, Facts, Kind, LineError, ResultLine};
pub use state::State;
pub use stored::{for_each_facts, for_each_result};
pub use times::Times;
