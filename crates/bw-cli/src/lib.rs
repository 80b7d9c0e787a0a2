#![doc = include_str!("../README.md")]

mod args;
mod cmd;
mod exit;
mod file;
mod logging;
mod outcome_json;
mod paths;
mod progress;
mod result_args;
mod server;
mod signals;
mod text;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

pub use exit::Exit;

/// Runs `bwscan` with the arguments of this process.
pub fn main() -> ExitCode {
    let args = args::Args::parse();
    logging::init(&args.global);
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return exit::report(&anyhow::Error::new(error)),
    };
    let result = runtime.block_on(run_args(args));
    // Threads that block in the kernel (a name look-up) must not keep us.
    runtime.shutdown_background();
    match result {
        Ok(exit) => exit.into(),
        Err(error) => exit::report(&error),
    }
}

/// Runs `bwscan` with `arguments`, the program's name first, within the
/// caller's tokio runtime and with the caller's log; for tests and for
/// programs that embed it.
///
/// # Errors
/// Whatever stops the command; a wrong command line too.
pub async fn run<I, T>(arguments: I) -> anyhow::Result<Exit>
where
    I: IntoIterator<Item = T>,
    T: Into<OsString> + Clone,
{
    run_args(args::Args::try_parse_from(arguments)?).await
}

async fn run_args(args: args::Args) -> anyhow::Result<Exit> {
    // arti and our own TLS want one provider for the whole process; if one is
    // installed already, that one does.
    let _ = rustls::crypto::ring::default_provider().install_default();
    cmd::run(args).await
}
