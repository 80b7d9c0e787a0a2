//! The manual page of a command.

use std::collections::BTreeMap;

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

/// Files that commands use.
const FILES: [(&str, &str); 4] = [
    (
        "~/.config/bwscan/bwscan.toml",
        "Options, unless --config names another file; see bwscan.toml(5). Users who have none \
         share /etc/bwscan/bwscan.toml.",
    ),
    (
        "~/.local/share/bwscan/results.sqlite",
        "All results, in the data directory of --data-dir.",
    ),
    (
        "~/.local/share/bwscan/v3bw/latest.v3bw",
        "The newest bandwidth file that was published, a symbolic link.",
    ),
    (
        "~/.local/share/bwscan/tor/",
        "The directory of the Tor network.",
    ),
];

/// The page of `command`, which was built, in section 1.
pub(super) fn of_command(command: &Command) -> std::io::Result<Vec<u8>> {
    let mut page = Vec::new();
    let man = Man::new(command.clone()).manual("bwscan");
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    let mut more = Roff::new();
    for paragraph in after_help(command).split("\n\n") {
        if let Some((title, body)) = paragraph.split_once(":\n") {
            literal(&mut more, title, body);
        }
    }
    list(&mut more, "ENVIRONMENT", &environment(command));
    list(&mut more, "FILES", &FILES);
    more.control("SH", ["SEE ALSO"]);
    more.text([
        bold("bwscan"),
        roman("(1), "),
        bold("bwscan.toml"),
        roman("(5)"),
    ]);
    more.to_writer(&mut page)?;
    Ok(page)
}

/// Lines that are shown as they are.
pub(super) fn literal(page: &mut Roff, title: &str, body: &str) {
    page.control("SH", [title.to_uppercase().as_str()]);
    page.control("EX", []);
    for line in body.lines() {
        page.text([roman(line)]);
    }
    page.control("EE", []);
}

/// Names, each with its explanation.
pub(super) fn list<N, E>(page: &mut Roff, title: &str, entries: &[(N, E)])
where
    N: AsRef<str>,
    E: AsRef<str>,
{
    page.control("SH", [title]);
    for (name, explanation) in entries {
        page.control("TP", []);
        page.text([bold(name.as_ref())]);
        page.text([roman(explanation.as_ref())]);
    }
}

fn after_help(command: &Command) -> String {
    command
        .get_after_help()
        .map(ToString::to_string)
        .unwrap_or_default()
}

/// The variables that a command reads, and those of the commands in it.
fn environment(command: &Command) -> Vec<(String, String)> {
    let mut variables = BTreeMap::new();
    for command in super::all(command) {
        for argument in command.get_arguments() {
            if let (Some(name), Some(option)) = (argument.get_env(), argument.get_long()) {
                variables.insert(
                    name.to_string_lossy().into_owned(),
                    format!("The same as --{option}."),
                );
            }
        }
    }
    variables.into_iter().collect()
}
