//! Findings: what is well, what is not, and what to do about it.

use std::io::IsTerminal;

use serde::Serialize;

use crate::exit::Exit;
use crate::text::print;

/// The severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Level {
    /// All is well.
    Fine,
    /// It works, but somebody should look.
    Warning,
    /// It does not work.
    Problem,
}

/// Something that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    pub(crate) level: Level,
    /// The thing that was looked at.
    pub(crate) subject: &'static str,
    /// Its state.
    pub(crate) text: String,
    /// The advice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) advice: Option<String>,
}

impl Finding {
    pub(crate) fn fine(subject: &'static str, text: impl Into<String>) -> Self {
        Self::new(Level::Fine, subject, text)
    }

    pub(crate) fn warning(subject: &'static str, text: impl Into<String>) -> Self {
        Self::new(Level::Warning, subject, text)
    }

    pub(crate) fn problem(subject: &'static str, text: impl Into<String>) -> Self {
        Self::new(Level::Problem, subject, text)
    }

    fn new(level: Level, subject: &'static str, text: impl Into<String>) -> Self {
        Self {
            level,
            subject,
            text: text.into(),
            advice: None,
        }
    }

    /// Adds what to do.
    pub(crate) fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }
}

/// Prints findings one below the other, in colours on a terminal.
pub(crate) fn print_findings(findings: &[Finding]) -> anyhow::Result<()> {
    let in_colours = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    for finding in findings {
        let (word, colour) = match finding.level {
            Level::Fine => ("ok", "32"),
            Level::Warning => ("warning", "33"),
            Level::Problem => ("problem", "31"),
        };
        let word = if in_colours {
            format!("\x1b[{colour}m{word:>7}\x1b[0m")
        } else {
            format!("{word:>7}")
        };
        print(format!("{word}  {:<12} {}", finding.subject, finding.text))?;
        if let Some(advice) = &finding.advice {
            print(format!("{:22} → {advice}", ""))?;
        }
    }
    Ok(())
}

/// Returns 0 if nothing is a problem, and 1 otherwise.
pub(crate) fn exit_of(findings: &[Finding]) -> Exit {
    if findings.iter().any(|one| one.level == Level::Problem) {
        Exit::NotGoodEnough
    } else {
        Exit::Success
    }
}
