#![doc = include_str!("../README.md")]

mod attack;
mod authority;
mod observed;
mod plot;
mod positions;
mod probe;
mod random;
mod run;
mod setting;
mod world;

pub use attack::{Attack, AttackError, Policy};
pub use plot::{PlotError, plot};
pub use positions::{PositionShares, PositionWeights};
pub use probe::{CIRCUITS, SPREAD, left};
pub use run::{Day, Run, run, run_all};
pub use setting::Setting;
