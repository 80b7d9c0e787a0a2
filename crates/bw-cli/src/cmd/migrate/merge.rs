//! Options of an sbws in a configuration file that is there already.

use bw_sbws::Converted;
use toml::de::{DeTable, DeValue, Error};

/// The configuration file with what was added to it.
#[derive(Debug)]
pub(super) struct Merged {
    pub(super) text: String,
    /// Options that are new, as `[scan] scanner = "a"`.
    pub(super) added: Vec<String>,
    /// Options of sbws that are to be added by hand, or that the file has with another value.
    pub(super) kept: Vec<String>,
    /// Keys of sbws without a counterpart, and why.
    pub(super) notes: Vec<String>,
}

/// Adds what `converted` has to the configuration file `text`, line by line below the head of
/// its table, so that all else stays. Options that the file has already stay as they are.
pub(super) fn merge(text: &str, converted: &Converted) -> Result<Merged, Error> {
    let mut merged = Merged {
        text: text.to_owned(),
        added: Vec::new(),
        kept: Vec::new(),
        notes: converted.notes.clone(),
    };
    let file = DeTable::parse(text)?;
    for (&command, lines) in &converted.tables {
        let known = file.get_ref().get(command).map(toml::Spanned::get_ref);
        let mut new = String::new();
        for line in lines.lines() {
            match line
                .split_once(" = ")
                .map(|(key, _)| value(text, known, key))
            {
                Some(Some(known)) if line.ends_with(&format!(" = {known}")) => {}
                Some(Some(known)) => merged
                    .kept
                    .push(format!("[{command}] {line} (it is {known})")),
                _ => {
                    new.push_str(line);
                    new.push('\n');
                }
            }
        }
        merged.add(command, &new, known.is_some());
    }
    Ok(merged)
}

/// The value of a key as the file has it.
fn value<'a>(text: &'a str, table: Option<&DeValue<'_>>, key: &str) -> Option<&'a str> {
    let DeValue::Table(table) = table? else {
        return None;
    };
    let same = |known: &str| known.replace('-', "_") == key;
    let known = table.iter().find(|(known, _)| same(known.get_ref()))?;
    text.get(known.1.span())
}

impl Merged {
    /// Adds lines to a table, which `is_there` or comes at the end.
    fn add(&mut self, command: &str, lines: &str, is_there: bool) {
        if lines.is_empty() {
            return;
        }
        let shown = lines.lines().map(|line| format!("[{command}] {line}"));
        let head = format!("[{command}]");
        let mut places = self.text.split_inclusive('\n').scan(0, |end, line| {
            *end += line.len();
            Some((*end, line))
        });
        let below = places.find(|(_, line)| line.trim() == head && line.ends_with('\n'));
        match below.map(|(end, _)| end) {
            Some(end) => self.text.insert_str(end, lines),
            None if is_there => {
                let by_hand = shown.map(|line| format!("{line} (add it by hand)"));
                return self.kept.extend(by_hand);
            }
            None => {
                if !self.text.is_empty() && !self.text.ends_with('\n') {
                    self.text.push('\n');
                }
                self.text.push_str(&format!("\n{head}\n{lines}"));
            }
        }
        self.added.extend(shown);
    }
}

#[cfg(test)]
mod tests {
    use bw_sbws::Config;

    use super::*;
    use crate::cmd::sbws_config::converted;

    const INI: &str = "[scanner]\nnickname = here\ncountry = DE\nmeasurement_threads = 3\n\
        [destinations]\na = on\n[destinations.a]\nurl = https://a.example/1GiB\n";

    fn merged(text: &str) -> Merged {
        merge(text, &converted(&Config::parse(INI).unwrap())).unwrap()
    }

    #[test]
    fn the_package_s_configuration_gets_the_options_of_sbws() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../packaging/bwscan.toml");
        let Ok(text) = std::fs::read_to_string(path) else {
            println!("SKIPPED: {path} is not there");
            return;
        };
        let first = merged(&text);
        assert_eq!(first.added.len(), 3, "{first:?}");
        assert!(first.kept.is_empty() && first.notes.len() == 1, "{first:?}");
        // All lines are there still, in their order, with the new ones in their tables.
        let mut lines = first.text.lines();
        for line in text.lines() {
            assert!(lines.any(|found| found == line), "{line}\n{}", first.text);
        }
        let scan = first.text.split("[generate]").next().unwrap();
        assert!(scan.contains("\ndestination = [\"https://a.example/1GiB\"]\n"));
        assert!(scan.contains("\nscanner = \"here\"\n"), "{scan}");
        let second = merged(&first.text);
        assert_eq!(second.text, first.text);
        assert!(second.added.is_empty() && second.kept.is_empty());
    }

    #[test]
    fn options_that_are_there_stay() {
        let text = "scan.destination = \"https://mine.example/\" # mine\n\
                    [generate]\nscanner-country = \"FR\"";
        let merged = merged(text);
        assert_eq!(merged.text, text);
        assert_eq!(
            merged.kept,
            [
                "[generate] scanner_country = \"DE\" (it is \"FR\")",
                "[scan] destination = [\"https://a.example/1GiB\"] (it is \"https://mine.example/\")",
                "[scan] scanner = \"here\" (add it by hand)",
            ]
        );
        assert!(merged.added.is_empty());
    }

    #[test]
    fn an_empty_file_gets_tables() {
        let merged = merged("");
        assert!(
            merged
                .text
                .starts_with("\n[generate]\nscanner_country = \"DE\"\n\n[scan]\n")
        );
        assert_eq!(merge("", &Converted::default()).unwrap().text, "");
        assert!(merge("a = ", &Converted::default()).is_err());
    }
}
