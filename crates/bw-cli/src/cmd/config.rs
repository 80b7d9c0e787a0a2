//! `bwscan config show`: what a command would run with, and from where.

use std::collections::HashSet;
use std::ffi::OsString;

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args as ClapArgs, Command, Subcommand};
use serde::Serialize;
use serde_json::json;

use crate::command_line::{Merged, glance, levels, place, program};
use crate::config::{ConfigFile, is_incomplete, not_in_a_file, subcommand};
use crate::exit::Exit;
use crate::text::{print, print_json, table};

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Show the options that a command would run with, and where each comes from.
    Show(ConfigShowArgs),
}

#[derive(Debug, ClapArgs)]
pub(crate) struct ConfigShowArgs {
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Give what would be typed after "bwscan", for example: scan --interval 2h
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "COMMAND LINE"
    )]
    pub(crate) line: Vec<OsString>,
}

/// An option with what it is set to.
#[derive(Serialize)]
struct Row {
    option: String,
    values: Vec<String>,
    source: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
}

/// Shows what a command would run with; `arguments` are those of this process.
pub(super) fn run(
    command: &ConfigCommand,
    arguments: &[OsString],
    config: Option<&ConfigFile>,
) -> anyhow::Result<Exit> {
    let ConfigCommand::Show(args) = command;
    let program = program();
    let line = line(&program, arguments, args);
    let (names, rows) = rows(program, &line, config)?;
    let path = config.map(ConfigFile::path);
    if args.json {
        print_json(&json!({"config": path, "command": names, "options": rows}))?;
        return Ok(Exit::Success);
    }
    let mut table = table(["option", "value", "from"]);
    for row in rows {
        let origin = match (row.line, path) {
            (Some(line), Some(path)) => format!("{}:{line}", path.display()),
            _ => row.source.to_owned(),
        };
        table.add_row([row.option, row.values.join(", "), origin]);
    }
    print(table)?;
    Ok(Exit::Success)
}

/// The command line that is asked about: what is typed, without ourselves.
fn line(program: &Command, arguments: &[OsString], args: &ConfigShowArgs) -> Vec<OsString> {
    let own = [1, 2].map(|depth| place(program, arguments, depth) - 1);
    let begin = arguments.len() - args.line.len();
    let is_ours = |(at, argument): &(usize, &OsString)| {
        let text = argument.to_string_lossy();
        own.contains(at) || *at < begin && (text == "--" || text.starts_with("--json"))
    };
    let line = arguments.iter().enumerate().filter(|one| !is_ours(one));
    line.map(|(_, argument)| argument.clone()).collect()
}

fn rows(
    program: Command,
    line: &[OsString],
    config: Option<&ConfigFile>,
) -> anyhow::Result<(Vec<String>, Vec<Row>)> {
    let merged = Merged::new(&program, line, config);
    if let Err(error) = program.clone().try_get_matches_from(&merged.arguments)
        && !is_incomplete(&error)
    {
        return Err(error.into());
    }
    let matches = glance(&program, &merged.arguments)?;
    let (names, levels) = levels(&matches);
    let mut built = program;
    built.build();
    let mut seen = HashSet::new();
    let mut rows = Vec::new();
    for (depth, matches) in levels.into_iter().enumerate() {
        let command = subcommand(&built, &names[..depth]).into_iter();
        for argument in command.flat_map(Command::get_arguments) {
            if not_in_a_file(argument).is_none() && seen.insert(argument.get_id().clone()) {
                rows.extend(row(argument, matches, &merged));
            }
        }
    }
    Ok((names, rows))
}

/// `None` for what has no name: a file to read, for example.
fn row(argument: &Arg, matches: &ArgMatches, merged: &Merged<'_>) -> Option<Row> {
    let id = argument.get_id();
    let option = format!("--{}", argument.get_long()?);
    let values = matches.get_raw(id.as_str()).into_iter().flatten();
    let values = values.map(|value| value.to_string_lossy().into_owned());
    let setting = merged.used.iter().find(|setting| setting.id == *id);
    let source = match (setting, matches.value_source(id.as_str())) {
        (Some(_), _) => "file",
        (None, Some(ValueSource::CommandLine)) => "command line",
        (None, Some(ValueSource::EnvVariable)) => "environment",
        _ => "default",
    };
    Some(Row {
        option,
        values: values.collect(),
        source,
        line: setting.map(|setting| setting.position.line),
    })
}
