#![doc = include_str!("../README.md")]
#![allow(
    clippy::doc_markdown,
    reason = "help texts are documentation comments, and plain text"
)]

mod args;
mod cmd;
mod command_line;
mod config;
mod examples;
mod exit;
mod file;
mod finding;
mod journal;
mod logging;
mod moment;
mod owner;
mod paths;
mod progress;
mod publish;
mod relay_name;
mod service;
mod signals;
mod text;
mod values;

use std::ffi::OsString;
use std::process::ExitCode;

use command_line::CommandLine;
pub use exit::Exit;

/// Runs `bwscan` with the arguments of this process.
pub fn main() -> ExitCode {
    let arguments = std::env::args_os().collect();
    let line = match CommandLine::parse(arguments, paths::default_config()) {
        Ok(line) => line,
        Err(error) => return exit::report(&error),
    };
    logging::init(&line.args.global);
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return exit::report(&anyhow::Error::new(error)),
    };
    let result = runtime.block_on(run_line(line));
    // Threads that block in the kernel (a name look-up) must not keep us.
    runtime.shutdown_background();
    match result {
        Ok(exit) => exit.into(),
        Err(error) => exit::report(&error),
    }
}

/// Runs `bwscan` with `arguments`, the program's name first, within the
/// caller's tokio runtime and with the caller's log; for tests and for
/// programs that embed it. A configuration file counts if it is named by
/// `--config` or `BWSCAN_CONFIG`; the user's own is not looked for.
///
/// # Errors
/// Whatever stops the command; a wrong command line or configuration too.
pub async fn run<I, T>(arguments: I) -> anyhow::Result<Exit>
where
    I: IntoIterator<Item = T>,
    T: Into<OsString> + Clone,
{
    let arguments = arguments.into_iter().map(Into::into).collect();
    run_line(CommandLine::parse(arguments, None)?).await
}

async fn run_line(line: CommandLine) -> anyhow::Result<Exit> {
    // arti and our own TLS want one provider for the whole process; if one is
    // installed already, that one does.
    let _ = rustls::crypto::ring::default_provider().install_default();
    cmd::run(line).await
}
