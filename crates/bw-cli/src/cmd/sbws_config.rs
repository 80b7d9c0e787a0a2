//! sbws's configuration: what of it bwscan has options for.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context;
use bw_file::CountryCode;
use configparser::ini::Ini;

/// What a key of sbws becomes.
enum Counterpart {
    /// The option of this command and name, as it is.
    Same(&'static str, &'static str),
    /// The same, in seconds.
    Seconds(&'static str, &'static str),
    /// The same, in bytes.
    Bytes(&'static str, &'static str),
    /// The same, in days.
    Days(&'static str, &'static str),
    /// Nothing; and why.
    None(&'static str),
}

use Counterpart::{Bytes, Days, None as NoCounterpart, Same, Seconds};

/// Sections and keys of sbws 1.5.2 to 2.2.0; `destinations` is treated apart.
const KEYS: &[(&str, &str, Counterpart)] = &[
    ("scanner", "nickname", Same("scan", "scanner")),
    ("scanner", "country", Same("generate", "scanner_country")),
    (
        "scanner",
        "dirauth_nickname",
        Same("generate", "dirauth_nickname"),
    ),
    ("scanner", "download_min", Seconds("scan", "min_time")),
    ("scanner", "download_max", Seconds("scan", "max_time")),
    ("scanner", "max_download_size", Bytes("scan", "max_size")),
    ("general", "http_timeout", Seconds("scan", "stall_timeout")),
    (
        "general",
        "circuit_timeout",
        Seconds("scan", "step_timeout"),
    ),
    ("general", "data_period", Days("generate", "data_period")),
    (
        "general",
        "reset_bw_ipv4_changes",
        Same("generate", "reset_ipv4_changes"),
    ),
    (
        "general",
        "reset_bw_ipv6_changes",
        NoCounterpart("sbws does nothing with it either"),
    ),
    (
        "scanner",
        "download_toofast",
        NoCounterpart("a download is watched while it runs, not made again larger"),
    ),
    (
        "scanner",
        "download_target",
        NoCounterpart("a download ends when its rate is known"),
    ),
    (
        "scanner",
        "num_rtts",
        NoCounterpart("round-trip times are not measured apart"),
    ),
    (
        "scanner",
        "num_downloads",
        NoCounterpart("one download a measurement; --attempts are tries"),
    ),
    (
        "scanner",
        "initial_read_request",
        NoCounterpart("there is no series of growing requests"),
    ),
    (
        "scanner",
        "min_download_size",
        NoCounterpart("it was used for round-trip times only"),
    ),
    (
        "scanner",
        "measurement_threads",
        NoCounterpart(
            "measurements that do not disturb each other run at once; --circuits limits them",
        ),
    ),
    (
        "scanner",
        "upload",
        NoCounterpart("there is no upload mode"),
    ),
    (
        "scanner",
        "http_post_initial_bytes",
        NoCounterpart("there is no upload mode"),
    ),
    (
        "paths",
        "sbws_home",
        NoCounterpart("give --data-dir; nothing is shared with sbws"),
    ),
    (
        "paths",
        "datadir",
        NoCounterpart("results are in the store"),
    ),
    (
        "paths",
        "v3bw_dname",
        NoCounterpart("give generate --output"),
    ),
    (
        "paths",
        "v3bw_fname",
        NoCounterpart("names are made of the time"),
    ),
    (
        "paths",
        "state_fname",
        NoCounterpart("state is in the store"),
    ),
    (
        "paths",
        "log_dname",
        NoCounterpart("logs go to standard error"),
    ),
    (
        "cleanup",
        "*",
        NoCounterpart("nothing is removed by itself"),
    ),
    (
        "tor",
        "*",
        NoCounterpart("no tor is run: arti is part of bwscan; give scan --tor-config"),
    ),
    (
        "relayprioritizer",
        "*",
        NoCounterpart("every relay has its turn"),
    ),
    ("logging", "*", NoCounterpart("give --verbose or --log")),
    (
        "destinations",
        "usability_test_interval",
        NoCounterpart("sbws does nothing with it either"),
    ),
];

/// A configuration of sbws.
pub(super) struct SbwsConfig(Ini);

/// A destination that is switched on.
struct Destination {
    name: String,
    url: String,
    country: Option<String>,
    verify: Option<String>,
}

impl SbwsConfig {
    /// Reads the file. Defaults are not filled in.
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("{}: cannot be read", path.display()))?;
        Self::parse(&text)
            .map_err(anyhow::Error::msg)
            .with_context(|| format!("{}: this is no configuration of sbws", path.display()))
    }

    fn parse(text: &str) -> Result<Self, String> {
        // As Python's ConfigParser reads: a # within a value is part of it.
        let mut rules = Ini::new().defaults();
        rules.inline_comment_symbols = Some(Vec::new());
        rules.multiline = true;
        let mut ini = Ini::new_from_defaults(rules);
        ini.read(text.to_owned())?;
        Ok(Self(ini))
    }

    /// The value of a key, if it is there and not empty.
    pub(super) fn get(&self, section: &str, key: &str) -> Option<String> {
        self.0.get(section, key).filter(|value| !value.is_empty())
    }

    /// The scanner's country.
    pub(super) fn country(&self) -> Option<CountryCode> {
        CountryCode::parse(self.get("scanner", "country")?.as_bytes())
    }

    /// The countries of the destinations that are switched on, in order.
    pub(super) fn destinations_countries(&self) -> Vec<CountryCode> {
        let countries = self.destinations().into_iter();
        countries
            .filter_map(|destination| CountryCode::parse(destination.country?.as_bytes()))
            .collect()
    }

    fn destinations(&self) -> Vec<Destination> {
        let map = self.0.get_map_ref();
        let Some(switches) = map.get("destinations") else {
            return Vec::new();
        };
        let on = |value: &Option<String>| {
            let value = value.as_deref().unwrap_or_default().to_ascii_lowercase();
            matches!(value.as_str(), "1" | "yes" | "true" | "on")
        };
        switches
            .iter()
            .filter(|(name, value)| *name != "usability_test_interval" && on(value))
            .map(|(name, _)| {
                let section = format!("destinations.{name}");
                Destination {
                    name: name.clone(),
                    url: self.get(&section, "url").unwrap_or_default(),
                    country: self.get(&section, "country"),
                    verify: self.get(&section, "verify"),
                }
            })
            .collect()
    }

    /// The same as TOML: a table per command with its long options, and a
    /// comment for each key that has no counterpart.
    pub(super) fn to_toml(&self) -> String {
        let (mut scan, mut generate) = (String::new(), String::new());
        let mut notes = Vec::new();
        let map = self.0.get_map_ref();
        for (section, keys) in map {
            if section.starts_with("destinations") {
                continue;
            }
            for (key, value) in keys {
                let value = value.as_deref().unwrap_or_default();
                let known = KEYS
                    .iter()
                    .find(|(s, k, _)| s == section && (k == key || *k == "*"));
                let (command, name, text) = match known.map(|(_, _, counterpart)| counterpart) {
                    Some(Same(command, name)) => (command, name, value_of(value)),
                    Some(Seconds(command, name)) => (command, name, quote(&format!("{value}s"))),
                    Some(Bytes(command, name)) => (command, name, quote(&format!("{value}B"))),
                    Some(Days(command, name)) => (command, name, value_of(value)),
                    Some(NoCounterpart(why)) => {
                        notes.push(format!("[{section}] {key} = {value}: {why}"));
                        continue;
                    }
                    None => {
                        notes.push(format!("[{section}] {key} = {value}: not known"));
                        continue;
                    }
                };
                let table = if *command == "scan" {
                    &mut scan
                } else {
                    &mut generate
                };
                let _ = writeln!(table, "{name} = {text}");
            }
        }
        self.add_destinations(&mut scan, &mut generate, &mut notes);
        let mut text = String::from(
            "# Options of bwscan, made of a configuration of sbws: each key is a long option\n\
             # of the command that its table is named after, with _ for -.\n",
        );
        for (name, table) in [("scan", scan), ("generate", generate)] {
            let _ = write!(text, "\n[{name}]\n{table}");
        }
        if !notes.is_empty() {
            text.push_str("\n# Without a counterpart:\n");
            for note in notes {
                // A value of several lines stays a comment.
                let _ = writeln!(text, "# {}", note.replace('\n', " "));
            }
        }
        text
    }

    fn add_destinations(&self, scan: &mut String, generate: &mut String, notes: &mut Vec<String>) {
        let destinations = self.destinations();
        let urls: Vec<String> = destinations.iter().map(|one| quote(&one.url)).collect();
        if !urls.is_empty() {
            let _ = writeln!(scan, "destination = [{}]", urls.join(", "));
        }
        let countries: Vec<String> = self
            .destinations_countries()
            .iter()
            .map(ToString::to_string)
            .collect();
        if !countries.is_empty() {
            let countries = quote(&countries.join(","));
            let _ = writeln!(generate, "destinations_countries = {countries}");
        }
        for destination in destinations {
            let Some(verify) = destination.verify else {
                continue;
            };
            let place = format!("[destinations.{}] verify = {verify}", destination.name);
            match verify.to_ascii_lowercase().as_str() {
                "true" | "yes" | "on" | "1" => {}
                "false" | "no" | "off" | "0" => notes.push(format!(
                    "{place}: certificates are always verified; name the server's own with ca_file"
                )),
                _ => {
                    let _ = writeln!(scan, "ca_file = {}", quote(&verify));
                }
            }
        }
    }
}

/// A number or truth value as it is, text in quotes.
fn value_of(value: &str) -> String {
    match value.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" => "true".to_owned(),
        "false" | "no" | "off" => "false".to_owned(),
        _ if value.parse::<u64>().is_ok() => value.to_owned(),
        _ => quote(value),
    }
}

/// A string of TOML, whose escapes are those of JSON.
fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "[paths]\nsbws_home = ~/.sbws\n[general]\nhttp_timeout = 30\n\
        data_period = 5\nreset_bw_ipv4_changes = on\n[scanner]\nnickname = \"It's\" me#1\n\
        country = DE\nmeasurement_threads = 8\n[destinations]\nusability_test_interval = 300\n\
        foo = on\nbar = off\nbaz = yes\n[destinations.foo]\nurl = https://a.example/1G\n# a comment\n\
        country = ZZ\nverify = False\n[destinations.bar]\nurl = https://b.example/1G\n\
        country = FR\n[destinations.baz]\nurl = https://c.example/1G\ncountry = US\n\
        verify = /etc/ca.pem\n[tor]\nextra_lines =\n    Sandbox 1\n    NumCPUs 2\n[new]\nkey = 7\n";

    #[test]
    fn every_key_becomes_an_option_or_a_note() {
        let config = SbwsConfig::parse(TEXT).unwrap();
        let codes: Vec<String> = config
            .destinations_countries()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(codes, ["ZZ", "US"]);
        let toml = config.to_toml();
        for line in [
            "scanner = \"\\\"It's\\\" me#1\"",
            "stall_timeout = \"30s\"",
            "data_period = 5",
            "reset_ipv4_changes = true",
            "scanner_country = \"DE\"",
            "destination = [\"https://a.example/1G\", \"https://c.example/1G\"]",
            "destinations_countries = \"ZZ,US\"",
            "ca_file = \"/etc/ca.pem\"",
        ] {
            assert!(toml.lines().any(|found| found == line), "{line}\n{toml}");
        }
        for note in [
            "measurement_threads = 8",
            "extra_lines",
            "[new] key = 7: not known",
            "verify = False",
        ] {
            let found = toml.lines().find(|line| line.contains(note));
            assert!(
                found.is_some_and(|line| line.starts_with('#')),
                "{note}\n{toml}"
            );
        }
    }

    #[test]
    fn the_options_exist() {
        use clap::CommandFactory;
        let program = crate::args::Args::command();
        let mut names = vec![("scan", "destination"), ("scan", "ca_file")];
        names.push(("generate", "destinations_countries"));
        names.extend(
            KEYS.iter()
                .filter_map(|(_, _, counterpart)| match counterpart {
                    Same(command, name)
                    | Seconds(command, name)
                    | Bytes(command, name)
                    | Days(command, name) => Some((*command, *name)),
                    NoCounterpart(_) => None,
                }),
        );
        for (command, name) in names {
            let command = program.find_subcommand(command).unwrap();
            let long = name.replace('_', "-");
            let known = command
                .get_arguments()
                .any(|arg| arg.get_long() == Some(&long));
            assert!(known, "{} --{long}", command.get_name());
        }
    }

    #[test]
    fn every_line_is_a_table_a_key_or_a_comment() {
        for line in SbwsConfig::parse(TEXT).unwrap().to_toml().lines() {
            let known = line.is_empty() || line.starts_with(['#', '[']) || line.contains(" = ");
            assert!(known, "{line}");
        }
    }
}
