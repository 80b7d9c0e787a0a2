//! Whether and how output is coloured.

use std::io::IsTerminal as _;

use bw_file::Severity;
use clap::ValueEnum;

/// When to colour the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
#[non_exhaustive]
pub(crate) enum ColorChoice {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
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

/// What a file says, so that it cannot move the cursor of a terminal.
pub(super) fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|character| {
            let escaped = character.is_control().then(|| character.escape_default());
            let plain = escaped.is_none().then_some(character);
            escaped.into_iter().flatten().chain(plain)
        })
        .collect()
}
