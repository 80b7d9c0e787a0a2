#![doc = include_str!("../README.md")]

mod answer;
mod api;
mod live;
mod pages;
mod serve;
mod web;

pub use web::Web;
