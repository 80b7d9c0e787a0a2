//! `bwscan completions` and `bwscan man`: made from the command line's own
//! definition.

mod config_page;
mod page;

use std::io::Write;
use std::path::Path;

use anyhow::Context;
use clap::{Command, CommandFactory};

use crate::args::Args;
use crate::exit::Exit;

/// Prints the completion script for `shell`.
pub(super) fn completions(shell: clap_complete::Shell) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "bwscan", &mut script);
    std::io::stdout().write_all(&script)?;
    Ok(Exit::Success)
}

/// Prints the manual page, or writes all pages into `directory`, one of those in
/// which `man` looks.
pub(super) fn pages(directory: Option<&Path>) -> anyhow::Result<Exit> {
    let mut program = Args::command().disable_help_subcommand(true);
    program.build();
    let Some(directory) = directory else {
        std::io::stdout().write_all(&page::of_command(&program)?)?;
        return Ok(Exit::Success);
    };
    for command in all(&program) {
        let name = command.get_display_name().unwrap_or(command.get_name());
        let page = page::of_command(command)?;
        write(&directory.join("man1"), &format!("{name}.1"), &page)?;
    }
    let page = config_page::page(&program)?;
    write(&directory.join("man5"), "bwscan.toml.5", &page)?;
    Ok(Exit::Success)
}

/// A command, those in it and so on.
fn all(command: &Command) -> Vec<&Command> {
    let inner = command.get_subcommands().flat_map(all);
    std::iter::once(command).chain(inner).collect()
}

fn write(directory: &Path, name: &str, page: &[u8]) -> anyhow::Result<()> {
    let path = directory.join(name);
    std::fs::create_dir_all(directory)
        .and_then(|()| std::fs::write(&path, page))
        .with_context(|| format!("{}: the page cannot be written", path.display()))
}
