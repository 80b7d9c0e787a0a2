//! The binary `bwscan`; everything is in the library beside it.

use std::process::ExitCode;

fn main() -> ExitCode {
    bw_cli::main()
}
