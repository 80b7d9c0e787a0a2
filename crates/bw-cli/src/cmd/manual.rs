//! `bwscan completions` and `bwscan man`: made from the command line's own
//! definition.

use std::io::Write;
use std::path::Path;

use anyhow::Context;
use clap::CommandFactory;

use crate::args::Args;
use crate::exit::Exit;

/// Prints the completion script for `shell`.
pub(super) fn completions(shell: clap_complete::Shell) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "bwscan", &mut script);
    std::io::stdout().write_all(&script)?;
    Ok(Exit::Success)
}

/// Prints the manual page, or writes one per command into `directory`.
pub(super) fn pages(directory: Option<&Path>) -> anyhow::Result<Exit> {
    match directory {
        Some(directory) => clap_mangen::generate_to(Args::command(), directory)
            .with_context(|| format!("{}: the pages cannot be written", directory.display()))?,
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Args::command()).render(&mut page)?;
            std::io::stdout().write_all(&page)?;
        }
    }
    Ok(Exit::Success)
}
