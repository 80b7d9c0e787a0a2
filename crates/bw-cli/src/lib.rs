#![doc = include_str!("../README.md")]

mod args;
mod cmd;
mod exit;
mod logging;
mod outcome_json;
mod paths;
mod progress;
mod server;
mod signals;
mod text;

use std::process::ExitCode;

use clap::Parser;

pub use exit::Exit;

/// Runs `bwscan` with the arguments of this process.
pub fn main() -> ExitCode {
    // arti and our own TLS want one provider for the whole process; that it
    // is there already can only mean that a test called us twice.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let args = args::Args::parse();
    logging::init(&args.global);
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return exit::report(&anyhow::Error::new(error)),
    };
    let result = runtime.block_on(cmd::run(args));
    // Threads that block in the kernel (a name look-up) must not keep us.
    runtime.shutdown_background();
    match result {
        Ok(exit) => exit.into(),
        Err(error) => exit::report(&error),
    }
}
