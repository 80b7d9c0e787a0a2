//! The configuration file: options as they would be typed, a table per command.
//!
//! There is no list of keys. Which there are, and which values they take, is
//! asked of the command line's own definition.

use std::ffi::OsString;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

use clap::builder::Command;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, CommandFactory, Id};
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use crate::args::Args;
use crate::exit::UsageError;

/// A file that is larger is not one of ours.
const MAX_BYTES: u64 = 1 << 20;

/// A configuration file, each of its keys and values checked.
#[derive(Debug)]
pub(crate) struct ConfigFile {
    path: PathBuf,
    settings: Vec<Setting>,
}

/// A key of the file.
#[derive(Debug)]
pub(crate) struct Setting {
    /// The names of the command whose table this is; none at the top.
    pub(crate) command: Vec<String>,
    /// The option.
    pub(crate) id: Id,
    /// The option as it is typed, without its value.
    pub(crate) option: String,
    /// The arguments in its place on a command line; none for a flag that is false.
    pub(crate) arguments: Vec<OsString>,
    pub(crate) position: Position,
}

/// Line and column, in characters, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

impl Position {
    fn of(text: &str, offset: usize) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |end| end + 1);
        Self {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

impl ConfigFile {
    /// Reads a file; `None` if there is none.
    pub(crate) fn read(path: &Path) -> Result<Option<Self>, UsageError> {
        let refuse = |error: &dyn std::fmt::Display| {
            UsageError(format!(
                "{}: the configuration cannot be read: {error}",
                path.display()
            ))
        };
        let file = match std::fs::File::open(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(|error| refuse(&error))?,
        };
        let mut bytes = Vec::new();
        file.take(MAX_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| refuse(&error))?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(refuse(&format!("it has more than {MAX_BYTES} bytes")));
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let valid = String::from_utf8_lossy(valid);
            let position = Position::of(&valid, valid.len());
            UsageError(format!("{}:{position}: this is not UTF-8", path.display()))
        })?;
        Self::parse(path, &text).map(Some)
    }

    /// Reads `text`, which is that of the file at `path`.
    pub(crate) fn parse(path: &Path, text: &str) -> Result<Self, UsageError> {
        let mut definition = Args::command();
        definition.build();
        let mut reader = Reader {
            path,
            text,
            definition: &definition,
            without_environment: without_environment(definition.clone()),
            settings: Vec::new(),
        };
        let table = DeTable::parse(text).map_err(|error| {
            reader.refuse(
                error.span().unwrap_or(text.len()..text.len()),
                error.message(),
            )
        })?;
        reader.table(&[], table.get_ref())?;
        Ok(Self {
            path: path.to_owned(),
            settings: reader.settings,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The settings in the table of a command.
    pub(crate) fn of<'a, 'b>(
        &'a self,
        command: &'b [String],
    ) -> impl Iterator<Item = &'a Setting> + use<'a, 'b> {
        let of = move |setting: &&Setting| setting.command == command;
        self.settings.iter().filter(of)
    }
}

/// Why a file may not have this option, if it may not.
pub(crate) fn not_in_a_file(argument: &Arg) -> Option<&'static str> {
    match (argument.get_action(), argument.get_id().as_str()) {
        (ArgAction::Help | ArgAction::HelpShort | ArgAction::HelpLong | ArgAction::Version, _) => {
            Some("it is for the command line only")
        }
        (_, "config" | "no_config") => Some("a configuration file cannot name another"),
        _ => None,
    }
}

/// The command that is reached by `names`.
pub(crate) fn subcommand<'a>(program: &'a Command, names: &[String]) -> Option<&'a Command> {
    names
        .iter()
        .try_fold(program, |command, name| command.find_subcommand(name))
}

fn without_environment(command: Command) -> Command {
    command
        .mut_args(|argument| argument.env(None::<&str>))
        .mut_subcommands(without_environment)
}

/// A key as an option is typed.
fn option_of(key: &str) -> String {
    format!("--{}", key.replace('_', "-"))
}

/// An option as a key.
fn key_of(option: &str) -> String {
    option.trim_start_matches('-').replace('-', "_")
}

struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
    definition: &'a Command,
    /// To try single options, which nothing else may disturb.
    without_environment: Command,
    settings: Vec<Setting>,
}

impl Reader<'_> {
    fn refuse(&self, span: Range<usize>, problem: impl std::fmt::Display) -> UsageError {
        let position = Position::of(self.text, span.start);
        let path = self.path.display();
        UsageError(format!("{path}:{position}: {problem}"))
    }

    /// Reads the table of a command, and those of its own commands in it.
    fn table(&mut self, names: &[String], table: &DeTable<'_>) -> Result<(), UsageError> {
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        for (key, value) in entries {
            let inner = [names, &[key.get_ref().to_string()]].concat();
            match value.get_ref() {
                DeValue::Table(_) if subcommand(self.definition, &inner).is_none() => {
                    return Err(self.unknown_table(names, key));
                }
                DeValue::Table(table) => self.table(&inner, table)?,
                _ if subcommand(self.definition, &inner).is_some()
                    && find(self.definition, names, key.get_ref()).is_none() =>
                {
                    let problem = format!(
                        "{} is a command: put its options below [{}]",
                        inner.join(" "),
                        inner.join(".")
                    );
                    return Err(self.refuse(key.span(), problem));
                }
                _ => self.setting(names, key, value)?,
            }
        }
        Ok(())
    }

    fn setting(
        &mut self,
        names: &[String],
        key: &Spanned<DeString<'_>>,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<(), UsageError> {
        let Some(argument) = find(self.definition, names, key.get_ref()) else {
            return Err(self.unknown_key(names, key));
        };
        if let Some(why) = not_in_a_file(argument) {
            return Err(self.refuse(key.span(), format!("{}: {why}", key.get_ref())));
        }
        let same =
            |setting: &&Setting| setting.command == names && setting.id == *argument.get_id();
        if let Some(first) = self.settings.iter().find(same) {
            let problem = format!(
                "{} is given in line {} too",
                key.get_ref(),
                first.position.line
            );
            return Err(self.refuse(key.span(), problem));
        }
        let option = option_of(key.get_ref());
        let values = match value.get_ref() {
            DeValue::Array(values) if matches!(argument.get_action(), ArgAction::Append) => {
                values.iter().collect()
            }
            _ => vec![value],
        };
        let mut arguments = Vec::new();
        for value in values {
            let typed = typed(&option, argument, value.get_ref()).map_err(|problem| {
                self.refuse(value.span(), format!("{}: {problem}", key.get_ref()))
            })?;
            if let Err(error) = self.try_options(names, &typed) {
                let problem = first_paragraph(&error);
                return Err(self.refuse(value.span(), format!("{}: {problem}", key.get_ref())));
            }
            arguments.extend(typed);
        }
        self.settings.push(Setting {
            command: names.to_vec(),
            id: argument.get_id().clone(),
            option,
            arguments,
            position: Position::of(self.text, key.span().start),
        });
        Ok(())
    }

    /// Tries these options of a command, whatever else is missing.
    fn try_options(&self, names: &[String], options: &[OsString]) -> Result<(), clap::Error> {
        let names = names.iter().map(OsString::from);
        let line = [OsString::from("bwscan")].into_iter().chain(names);
        let line = line.chain(options.iter().cloned());
        match self.without_environment.clone().try_get_matches_from(line) {
            Err(error) if !is_incomplete(&error) => Err(error),
            _ => Ok(()),
        }
    }

    fn unknown_key(&self, names: &[String], key: &Spanned<DeString<'_>>) -> UsageError {
        let option = OsString::from(option_of(key.get_ref()));
        let similar = |names: &[String]| {
            let error = self
                .try_options(names, std::slice::from_ref(&option))
                .err()?;
            suggested(&error, ContextKind::SuggestedArg).map(|option| key_of(&option))
        };
        let program = program(names);
        let mut tables = Vec::new();
        add_tables(self.definition, Vec::new(), &mut tables);
        let mut owners = tables.clone();
        owners.retain(|table| find(self.definition, table, key.get_ref()).is_some());
        let below = |table: &Vec<String>| format!("[{}]", table.join("."));
        let hint = if let Some(similar) = similar(names) {
            format!("did you mean {similar}?")
        } else if !owners.is_empty() {
            let owners: Vec<_> = owners.iter().map(below).collect();
            format!("it belongs below {}", owners.join(" or "))
        } else if let Some((table, similar)) = tables
            .iter()
            .find_map(|table| Some((table, similar(table)?)))
        {
            format!("did you mean {similar}, below {}?", below(table))
        } else {
            format!("\"{program} --help\" lists them")
        };
        self.refuse(
            key.span(),
            format!("{:?} is no option of {program}; {hint}", key.get_ref()),
        )
    }

    fn unknown_table(&self, names: &[String], key: &Spanned<DeString<'_>>) -> UsageError {
        let name = key.get_ref().to_string();
        if find(self.definition, names, &name).is_some() {
            let problem = format!("{name} is an option, not a table: write {name} = VALUE");
            return self.refuse(key.span(), problem);
        }
        let error = self.try_options(names, &[name.clone().into()]).err();
        let similar = error.and_then(|error| suggested(&error, ContextKind::SuggestedSubcommand));
        let hint = similar.map_or_else(
            || format!("\"{} --help\" lists them", program(names)),
            |similar| format!("did you mean {similar}?"),
        );
        let problem = format!("{name:?} is no command of {}; {hint}", program(names));
        self.refuse(key.span(), problem)
    }
}

/// Returns true if a command line only lacks something, which may come from elsewhere.
pub(crate) fn is_incomplete(error: &clap::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::MissingRequiredArgument
            | ErrorKind::MissingSubcommand
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    )
}

fn program(names: &[String]) -> String {
    [&["bwscan".to_owned()], names].concat().join(" ")
}

fn find<'a>(program: &'a Command, names: &[String], key: &str) -> Option<&'a Arg> {
    let long = key.replace('_', "-");
    subcommand(program, names)?
        .get_arguments()
        .find(|argument| {
            let aliases = argument.get_all_aliases().unwrap_or_default();
            argument.get_long() == Some(&long) || aliases.contains(&long.as_str())
        })
}

/// The tables that a file can have.
fn add_tables(command: &Command, names: Vec<String>, tables: &mut Vec<Vec<String>>) {
    // "help" repeats all the others.
    let commands = command
        .get_subcommands()
        .filter(|one| one.get_name() != "help");
    for command in commands {
        let inner = [&names[..], &[command.get_name().to_owned()]].concat();
        tables.push(inner.clone());
        add_tables(command, inner, tables);
    }
}

/// The arguments that give an option a value.
fn typed(option: &str, argument: &Arg, value: &DeValue<'_>) -> Result<Vec<OsString>, String> {
    match (argument.get_action(), value) {
        (ArgAction::SetTrue, DeValue::Boolean(false)) => return Ok(Vec::new()),
        (ArgAction::SetTrue, DeValue::Boolean(true)) => return Ok(vec![option.into()]),
        (ArgAction::SetTrue, _) => return Err("true or false is expected".to_owned()),
        (ArgAction::Count, DeValue::Integer(count)) => {
            let count = u8::from_str_radix(count.as_str(), count.radix());
            let count = count.map_err(|_| "a number from 0 to 255 is expected".to_owned())?;
            return Ok(vec![option.into(); count.into()]);
        }
        (ArgAction::Count, _) => return Err("a number from 0 to 255 is expected".to_owned()),
        _ => {}
    }
    let text = match value {
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(number) => i128::from_str_radix(number.as_str(), number.radix())
            .map_err(|_| "the number is too large".to_owned())?
            .to_string(),
        DeValue::Float(number) => number.as_str().to_owned(),
        DeValue::Boolean(truth) => truth.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        DeValue::Array(_) => return Err("one value is expected, not a list".to_owned()),
        DeValue::Table(_) => return Err("a value is expected, not a table".to_owned()),
    };
    Ok(vec![format!("{option}={text}").into()])
}

/// clap's own words without usage and advice, in one line.
fn first_paragraph(error: &clap::Error) -> String {
    let text = error.to_string();
    let text = text.split("\n\n").next().unwrap_or_default();
    let words: Vec<&str> = text.split_whitespace().collect();
    let text = words.join(" ");
    text.strip_prefix("error: ").unwrap_or(&text).to_owned()
}

/// The name that clap suggests.
fn suggested(error: &clap::Error, kind: ContextKind) -> Option<String> {
    match error.get(kind)? {
        ContextValue::String(text) => Some(text.clone()),
        ContextValue::Strings(texts) => texts.first().cloned(),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
