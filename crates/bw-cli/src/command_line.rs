//! The command line together with the configuration file.
//!
//! What the file says is added to the arguments as if it had been typed, unless
//! the command line or the environment says otherwise; so clap judges the whole
//! by its own rules.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::{Command, StyledStr};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, CommandFactory, FromArgMatches, Id, Parser};

use crate::args::Args;
use crate::config::{ConfigFile, Setting, subcommand};
use crate::exit::UsageError;

/// The task, and the configuration file behind it.
#[derive(Debug)]
pub(crate) struct CommandLine {
    /// As it was typed.
    pub(crate) arguments: Vec<OsString>,
    pub(crate) args: Args,
    pub(crate) config: Option<ConfigFile>,
}

impl CommandLine {
    /// Parses the arguments, the program's name first, with the file that
    /// they name or, if they name none, with the one at `default` if it exists.
    pub(crate) fn parse(
        arguments: Vec<OsString>,
        default: Option<PathBuf>,
    ) -> anyhow::Result<Self> {
        let program = program();
        let Ok(matches) = glance(&program, &arguments) else {
            // Help is asked for, or the version: nothing that a file decides.
            return Ok(Self {
                args: Args::try_parse_from(&arguments)?,
                arguments,
                config: None,
            });
        };
        let config = config_file(&matches, default)?;
        let merged = Merged::new(&program, &arguments, config.as_ref());
        let args = program
            .clone()
            .try_get_matches_from(&merged.arguments)
            .and_then(|matches| Args::from_arg_matches(&matches))
            .map_err(|error| match error.kind() {
                // As it is without the changes to flags.
                ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
                    Args::try_parse_from(&arguments).err().unwrap_or(error)
                }
                _ => merged.with_origin(error, config.as_ref()),
            })?;
        Ok(Self {
            arguments,
            args,
            config,
        })
    }
}

fn config_file(
    matches: &ArgMatches,
    default: Option<PathBuf>,
) -> Result<Option<ConfigFile>, UsageError> {
    if matches.get_flag("no_config") {
        return Ok(None);
    }
    match (matches.get_one::<PathBuf>("config"), default) {
        (Some(path), _) => ConfigFile::read(path)?.map(Some).ok_or_else(|| {
            let path = path.display();
            UsageError(format!("{path}: there is no such configuration file"))
        }),
        (None, Some(path)) => ConfigFile::read(&path),
        (None, None) => Ok(None),
    }
}

/// The definition of the command line, with flags that can be given a value: a
/// flag that the file sets must be unset by `--flag=false`.
pub(crate) fn program() -> Command {
    fn with_values(command: Command) -> Command {
        command
            .mut_args(|argument| match argument.get_action() {
                ArgAction::SetTrue => argument
                    .action(ArgAction::Set)
                    .num_args(0..=1)
                    .require_equals(true)
                    .default_missing_value("true")
                    .default_value("false")
                    .value_name("BOOL"),
                _ => argument,
            })
            .mut_subcommands(with_values)
    }
    with_values(Args::command())
}

/// The matches of a command line that may be incomplete or wrong.
///
/// # Errors
/// If it asks for help or for the version.
pub(crate) fn glance(program: &Command, arguments: &[OsString]) -> Result<ArgMatches, clap::Error> {
    program
        .clone()
        .ignore_errors(true)
        .try_get_matches_from(arguments)
}

/// The matches of a command line, of its command, of that one's command and so on.
pub(crate) fn levels(matches: &ArgMatches) -> (Vec<String>, Vec<&ArgMatches>) {
    let (mut names, mut levels) = (Vec::new(), vec![matches]);
    let mut matches = matches;
    while let Some((name, inner)) = matches.subcommand() {
        names.push(name.to_owned());
        levels.push(inner);
        matches = inner;
    }
    (names, levels)
}

/// A command line to which a file was added.
pub(crate) struct Merged<'a> {
    pub(crate) arguments: Vec<OsString>,
    /// The settings of the file that count.
    pub(crate) used: Vec<&'a Setting>,
}

impl<'a> Merged<'a> {
    pub(crate) fn new(
        program: &Command,
        arguments: &[OsString],
        config: Option<&'a ConfigFile>,
    ) -> Self {
        let mut merged = Self {
            arguments: arguments.to_vec(),
            used: Vec::new(),
        };
        let (Some(config), Ok(matches)) = (config, glance(program, arguments)) else {
            return merged;
        };
        let mut built = program.clone();
        built.build();
        let (names, levels) = levels(&matches);
        // From the innermost command outwards: what its table says of an
        // option of every command counts more, and places further to the
        // left stay where they are.
        for depth in (0..=names.len()).rev() {
            let Some(command) = subcommand(&built, &names[..depth]) else {
                continue;
            };
            let settings: Vec<&Setting> = config
                .of(&names[..depth])
                .filter(|setting| merged.used.iter().all(|used| used.id != setting.id))
                .filter(|setting| is_open(command, &levels[depth..], &setting.id))
                .collect();
            let place = place(program, arguments, depth);
            let typed = settings
                .iter()
                .flat_map(|setting| setting.arguments.clone());
            merged.arguments.splice(place..place, typed);
            merged.used.extend(settings);
        }
        merged
    }

    /// The error with the places of the options that are to blame and were
    /// not typed.
    fn with_origin(&self, mut error: clap::Error, config: Option<&ConfigFile>) -> clap::Error {
        let Some(config) = config else {
            return error;
        };
        let named =
            [ContextKind::InvalidArg, ContextKind::PriorArg].map(|kind| match error.get(kind) {
                Some(ContextValue::String(text)) => vec![text.clone()],
                Some(ContextValue::Strings(texts)) => texts.clone(),
                _ => Vec::new(),
            });
        let named = named.concat();
        let is_named = |setting: &&&Setting| {
            named
                .iter()
                .any(|text| text.split([' ', '=', '[']).next() == Some(&setting.option))
        };
        let mut to_blame: Vec<_> = self.used.iter().filter(is_named).collect();
        if to_blame.is_empty() && error.kind() == ErrorKind::MissingRequiredArgument {
            // clap does not tell which option requires the missing one.
            to_blame = self.used.iter().collect();
        }
        let tips = to_blame.iter().map(|setting| {
            let path = config.path().display();
            format!("{} comes from {path}:{}", setting.option, setting.position).into()
        });
        let tips: Vec<StyledStr> = tips.collect();
        if !tips.is_empty() {
            error.insert(ContextKind::Suggested, ContextValue::StyledStrs(tips));
        }
        error
    }
}

/// Returns true if neither the command line nor the environment sets an option or one
/// that excludes it.
fn is_open(command: &Command, levels: &[&ArgMatches], id: &Id) -> bool {
    let excludes = |one: &Arg, other: &Id| {
        let conflicts = command.get_arg_conflicts_with(one);
        conflicts.iter().any(|conflict| conflict.get_id() == other)
    };
    let Some(argument) = command.get_arguments().find(|one| one.get_id() == id) else {
        return false;
    };
    command
        .get_arguments()
        .filter(|other| is_given(levels, other.get_id()))
        .all(|other| {
            other.get_id() != id && !excludes(argument, other.get_id()) && !excludes(other, id)
        })
}

fn is_given(levels: &[&ArgMatches], id: &Id) -> bool {
    let id = id.as_str();
    levels.iter().any(|matches| {
        matches.try_contains_id(id).is_ok()
            && matches
                .value_source(id)
                .is_some_and(|source| source != ValueSource::DefaultValue)
    })
}

/// Where the options of the command at this depth may stand: after its name.
pub(crate) fn place(program: &Command, arguments: &[OsString], depth: usize) -> usize {
    (1..arguments.len())
        .find(|&count| {
            glance(program, &arguments[..count])
                .is_ok_and(|matches| levels(&matches).0.len() >= depth)
        })
        .unwrap_or(arguments.len())
}
