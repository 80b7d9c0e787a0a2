//! Colours, names and times in output.

use std::io::IsTerminal as _;

use bw_file::{DateTime, Severity, UnixTime};
use clap::ValueEnum;

/// When the output has colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
#[non_exhaustive]
pub(crate) enum ColorChoice {
    /// Colour on a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Colour always.
    Always,
    /// Colour never.
    Never,
}

impl ColorChoice {
    pub(super) fn enabled(self) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => {
                let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
                !refused && std::io::stdout().is_terminal()
            }
        }
    }
}

/// Colours the line that names the severity.
pub(super) fn paint(line: &str, color: bool) -> String {
    let severities = [
        (Severity::Error, "31"),
        (Severity::Warning, "33"),
        (Severity::Note, "36"),
    ];
    let found = severities
        .into_iter()
        .find(|(severity, _)| line.contains(&format!(": {severity}[")));
    match found {
        Some((_, code)) if color && !line.starts_with(' ') => format!("\x1b[{code}m{line}\x1b[0m"),
        _ => line.to_owned(),
    }
}

/// Colours a line of a difference by its sign.
pub(super) fn paint_change(line: &str, sign: char, color: bool) -> String {
    let code = match sign {
        _ if !color => return line.to_owned(),
        '-' => "31",
        '+' => "32",
        _ => "33",
    };
    format!("\x1b[{code}m{line}\x1b[0m")
}

/// A factor that an option takes: 1 or more.
pub(super) fn at_least_one(text: &str) -> Result<f64, &'static str> {
    text.parse()
        .ok()
        .filter(|factor: &f64| factor.is_finite() && *factor >= 1.0)
        .ok_or("a number of 1 or more expected")
}

/// `2023-11-14T22:13:20`, or the bare number where that cannot be spelt.
pub(super) fn time(time: UnixTime) -> String {
    DateTime::new(time).map_or_else(|| time.to_string(), |time| time.to_string())
}
