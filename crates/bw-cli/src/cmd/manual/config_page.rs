//! The manual page bwscan.toml(5): all tables and keys of the configuration file.

use clap::{Arg, ArgAction, Command};
use clap_mangen::roff::{Roff, bold, italic, roman};

use super::page::{list, literal};
use crate::config::not_in_a_file;
use crate::examples;
use crate::paths::SYSTEM_CONFIG;

const DESCRIPTION: [&str; 4] = [
    "bwscan.toml holds options of bwscan in TOML. A table has the options of the command that it \
     is named after; options of every command stand at the top, before the first table.",
    "Keys are the long names of options, with _ or - between words. Values are text, numbers, \
     true and false; an option that can be repeated also takes a list. Times are written like \
     90s, 10m or 1h, sizes like 500kB, 4MB or 1GiB, rates like 4MB or 100Mbit.",
    "The command line takes precedence over the environment, the environment over this file, and \
     this file over the built-in defaults. Relative paths start at the working directory of \
     bwscan.",
    "bwscan checks the whole file whatever the command. An unknown key or a wrong value ends it \
     with exit code 2 and a message with line and column.",
];

const FILES: [(&str, &str); 2] = [
    (
        "~/.config/bwscan/bwscan.toml",
        "Read unless --config or BWSCAN_CONFIG names another file, or --no-config is given.",
    ),
    (
        SYSTEM_CONFIG,
        "Read in its place by users who have none, and by services.",
    ),
];

/// The page for the file of `program`, which was built.
pub(super) fn page(program: &Command) -> std::io::Result<Vec<u8>> {
    let mut page = Roff::new();
    let source = format!("bwscan {}", program.get_version().unwrap_or_default());
    page.control("TH", ["bwscan.toml", "5", "", &source, "bwscan"]);
    page.control("SH", ["NAME"]);
    page.text([roman("bwscan.toml - configuration file of bwscan")]);
    page.control("SH", ["DESCRIPTION"]);
    for (index, paragraph) in DESCRIPTION.into_iter().enumerate() {
        if index > 0 {
            page.control("PP", []);
        }
        page.text([roman(paragraph)]);
    }
    table(&mut page, program, "TOP", |_| true);
    tables(&mut page, program, &[]);
    literal(&mut page, "Examples", examples::CONFIG_FILE);
    list(&mut page, "FILES", &FILES);
    page.control("SH", ["SEE ALSO"]);
    page.text([bold("bwscan"), roman("(1)")]);
    let mut text = Vec::new();
    page.to_writer(&mut text)?;
    Ok(text)
}

fn tables(page: &mut Roff, command: &Command, names: &[&str]) {
    for inner in command.get_subcommands() {
        let names = [names, &[inner.get_name()]].concat();
        let own = |argument: &Arg| !argument.is_global_set();
        table(page, inner, &format!("[{}]", names.join(".")), own);
        tables(page, inner, &names);
    }
}

/// The keys of one table, if it has any.
fn table(page: &mut Roff, command: &Command, title: &str, is_of: impl Fn(&Arg) -> bool) {
    let keys: Vec<_> = command
        .get_arguments()
        .filter(|argument| is_of(argument) && not_in_a_file(argument).is_none())
        .filter_map(|argument| Some((argument.get_long()?.replace('-', "_"), argument)))
        .collect();
    if keys.is_empty() {
        return;
    }
    page.control("SH", [title]);
    for (key, argument) in keys {
        page.control("TP", []);
        page.text([bold(key), roman(" = "), italic(value(argument))]);
        let help = argument.get_help().map(ToString::to_string);
        page.text([roman(help.unwrap_or_default())]);
        let defaults = argument.get_default_values();
        let defaults = defaults.iter().map(|value| value.to_string_lossy());
        let defaults: Vec<_> = defaults.filter(|value| !value.is_empty()).collect();
        if takes_value(argument) && !defaults.is_empty() {
            page.text([roman(format!("Default: {}.", defaults.join(", ")))]);
        }
    }
}

fn takes_value(argument: &Arg) -> bool {
    matches!(argument.get_action(), ArgAction::Set | ArgAction::Append)
}

/// The form of a value.
fn value(argument: &Arg) -> String {
    let name = || {
        let names = argument.get_value_names().unwrap_or_default();
        names.first().map_or("VALUE".into(), ToString::to_string)
    };
    match argument.get_action() {
        ArgAction::SetTrue => "true | false".to_owned(),
        ArgAction::Append => format!("{0} | [{0}, …]", name()),
        _ => name(),
    }
}
