//! The configuration of sbws, and the options of bwscan that it becomes.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use bw_file::CountryCode;
use configparser::ini::Ini;

use crate::{Error, Result};

/// The counterpart of a key of sbws.
enum Counterpart {
    /// The option of this command and name, as it is.
    Same(&'static str, &'static str),
    /// The same, in seconds.
    Seconds(&'static str, &'static str),
    /// The same, in bytes.
    Bytes(&'static str, &'static str),
    /// The flag of this command and name.
    Flag(&'static str, &'static str),
    /// This value if it is on, that one if it is off.
    Switch(&'static str, &'static str, [&'static str; 2]),
    /// None, for this reason.
    None(&'static str),
}

use Counterpart::{Bytes, Flag, None as NoCounterpart, Same, Seconds, Switch};

/// Sections and keys of sbws 1.5.2 to 2.2.0. The destinations, and what a
/// destination's section has here, are treated apart.
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
    ("general", "data_period", Same("generate", "data_period")),
    (
        "general",
        "reset_bw_ipv4_changes",
        Flag("generate", "reset_ipv4_changes"),
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
        // Off, sbws still uploads where the consensus asks for it.
        Switch("scan", "direction", ["upload", "auto"]),
    ),
    (
        "scanner",
        "http_post_initial_bytes",
        NoCounterpart("an upload is one request, which ends when its rate is known"),
    ),
    (
        "paths",
        "sbws_home",
        NoCounterpart("give --data-dir; a directory of its own, shared with no sbws"),
    ),
    (
        "paths",
        "datadir",
        NoCounterpart("results are in the store"),
    ),
    (
        "paths",
        "v3bw_dname",
        NoCounterpart("give generate --output; another directory than that of an sbws that runs"),
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
        NoCounterpart("\"bwscan run\" removes what is old; the table [prune] has its options"),
    ),
    (
        "destinations.*",
        "max_num_failures",
        NoCounterpart("a destination that fails is left alone for a while"),
    ),
    (
        "tor",
        "*",
        NoCounterpart("no tor is run: arti is part of bwscan; give scan --tor-config"),
    ),
    (
        "relayprioritizer",
        "measure_authorities",
        NoCounterpart("authorities are not measured, since no weight of theirs counts"),
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

/// The values with which sbws comes, by which it knows who has not edited it.
const NOT_EDITED: [(&str, &str); 3] = [
    ("nickname", "IDidntEditTheSBWSConfig"),
    ("country", "AA"),
    ("dirauth_nickname", "dirauth_nickname"),
];

/// A configuration of sbws (`sbws.ini`), without its defaults.
#[derive(Debug)]
pub struct Config(Ini);

/// A destination that is switched on.
struct Destination {
    name: String,
    url: String,
    country: Option<String>,
    verify: Option<String>,
}

impl Config {
    /// Reads the file. Defaults are not filled in.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be read, or is no configuration.
    pub fn read(path: &Path) -> Result<Self> {
        let action = "reading the configuration of sbws";
        std::fs::read_to_string(path)
            .map_err(|error| Error::file(path, action, error))
            .and_then(|text| Self::parse(&text).map_err(|text| Error::file(path, action, text)))
    }

    /// Reads its text.
    ///
    /// # Errors
    /// If a line is neither a section nor a key; tells which.
    pub fn parse(text: &str) -> Result<Self, String> {
        // As Python's ConfigParser reads: a # within a value is part of it.
        let mut rules = Ini::new().defaults();
        rules.inline_comment_symbols = Some(Vec::new());
        rules.multiline = true;
        let mut ini = Ini::new_from_defaults(rules);
        ini.read(text.to_owned())?;
        Ok(Self(ini))
    }

    /// Sections and keys that it may have; `*` stands for any.
    pub fn keys() -> impl Iterator<Item = (&'static str, &'static str)> {
        KEYS.iter().map(|&(section, key, _)| (section, key))
    }

    /// The value of a key, if it is there and not empty.
    pub fn get(&self, section: &str, key: &str) -> Option<String> {
        self.0.get(section, key).filter(|value| !value.is_empty())
    }

    /// The scanner's country.
    pub fn country(&self) -> Option<CountryCode> {
        CountryCode::parse(self.get("scanner", "country")?.as_bytes())
    }

    /// The countries of the destinations that are switched on, in order.
    pub fn destinations_countries(&self) -> Vec<CountryCode> {
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
        switches
            .iter()
            .filter(|(name, value)| {
                *name != "usability_test_interval" && is_on(value.as_deref().unwrap_or_default())
            })
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

    /// The home of this sbws, where `~` is `user`.
    pub fn home(&self, user: &Path) -> PathBuf {
        let home = self.get("paths", "sbws_home");
        let home = expanded(home.as_deref().unwrap_or("~/.sbws"), user);
        // On Debian sbws 1.5.2 takes the directory above instead.
        if home == Path::new("/var/lib/sbws/.sbws") {
            return "/var/lib/sbws".into();
        }
        home
    }

    /// The directory of its bandwidth files, where `~` is `user`.
    pub fn bandwidth_files(&self, user: &Path) -> PathBuf {
        let home = self.home(user);
        let Some(directory) = self.get("paths", "v3bw_dname") else {
            return home.join("v3bw");
        };
        let home = home.to_string_lossy();
        expanded(&directory.replace("${sbws_home}", &home), user)
    }

    /// The same as options of bwscan.
    ///
    /// `check` is given a command and a line of its table, and tells what is wrong
    /// with that line.
    pub fn convert(&self, check: impl Fn(&str, &str) -> Result<(), String>) -> Converted {
        let mut toml = Toml {
            check: &check,
            converted: Converted::default(),
        };
        for (section, keys) in self.0.get_map_ref() {
            for (key, value) in keys {
                toml.convert(section, key, value.as_deref().unwrap_or_default());
            }
        }
        self.add_destinations(&mut toml);
        toml.converted
    }

    fn add_destinations(&self, toml: &mut Toml<'_>) {
        let mut destinations = self.destinations();
        destinations.retain(|destination| !destination.url.is_empty());
        let list = |texts: Vec<String>| format!("[{}]", texts.join(", "));
        if !destinations.is_empty() {
            let urls = destinations.iter().map(|one| quote(&one.url)).collect();
            toml.set("[destinations]", "scan", "destination", &list(urls));
        }
        let countries = self.destinations_countries();
        if !countries.is_empty() {
            let countries = countries.iter().map(|one| quote(&one.to_string()));
            let (name, countries) = ("destinations_countries", list(countries.collect()));
            toml.set("[destinations] country", "generate", name, &countries);
        }
        let mut ca_file = None;
        for destination in destinations {
            let Some(verify) = destination.verify else {
                continue;
            };
            let place = format!("[destinations.{}] verify = {verify}", destination.name);
            match verify.to_ascii_lowercase().as_str() {
                "true" | "yes" | "on" | "1" => {}
                "false" | "no" | "off" | "0" => toml.note(
                    &place,
                    "certificates are always verified; name the server's own with ca_file",
                ),
                _ if ca_file.as_ref().is_some_and(|first| *first != verify) => toml.note(
                    &place,
                    "ca_file is one file for all destinations: put the certificates together",
                ),
                _ => {
                    if ca_file.is_none() {
                        toml.set(&place, "scan", "ca_file", &quote(&verify));
                    }
                    ca_file = Some(verify);
                }
            }
        }
    }
}

/// The counterpart of a key; `None` if it is none of sbws's.
fn counterpart(section: &str, key: &str) -> Option<&'static Counterpart> {
    let is_section = |pattern: &str| match pattern.strip_suffix('*') {
        Some(start) => section.starts_with(start),
        None => section == pattern,
    };
    KEYS.iter()
        .find(|(s, k, _)| is_section(s) && (*k == key || *k == "*"))
        .map(|(_, _, counterpart)| counterpart)
}

fn is_on(value: &str) -> bool {
    let value = value.to_ascii_lowercase();
    matches!(value.as_str(), "1" | "yes" | "true" | "on")
}

/// A path as sbws reads it: a `~` in front is the user's home.
fn expanded(path: &str, user: &Path) -> PathBuf {
    match path.strip_prefix('~') {
        Some(rest) => user.join(rest.trim_start_matches('/')),
        None => path.into(),
    }
}

/// A configuration of sbws as options of bwscan. It is shown as a configuration file, with a
/// comment for each note.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Converted {
    /// Commands of bwscan with the lines of their tables, as TOML.
    pub tables: BTreeMap<&'static str, String>,
    /// Keys of sbws without a counterpart or with a value that bwscan does not take, and why.
    pub notes: Vec<String>,
}

impl fmt::Display for Converted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "# Options of bwscan, made of a configuration of sbws: each key is a long option\n\
             # of the command that its table is named after, with _ for -.\n",
        )?;
        for (command, table) in &self.tables {
            write!(f, "\n[{command}]\n{table}")?;
        }
        if !self.notes.is_empty() {
            f.write_str("\n# Without a counterpart:\n")?;
        }
        for note in &self.notes {
            writeln!(f, "# {note}")?;
        }
        Ok(())
    }
}

/// The conversion under way.
struct Toml<'c> {
    check: &'c dyn Fn(&str, &str) -> Result<(), String>,
    converted: Converted,
}

impl Toml<'_> {
    /// Adds the counterpart of a key; keys of destinations are added apart.
    fn convert(&mut self, section: &str, key: &str, value: &str) {
        let place = format!("[{section}] {key} = {value}");
        if NOT_EDITED.contains(&(key, value)) {
            self.note(&place, "this is what sbws comes with, to be edited");
            return;
        }
        let (command, name, value) = match counterpart(section, key) {
            Some(Same(command, name)) => (command, name, value_of(value)),
            Some(Seconds(command, name)) => (command, name, quote(&format!("{value}s"))),
            Some(Bytes(command, name)) => (command, name, quote(&format!("{value}B"))),
            Some(Flag(command, name)) => (command, name, is_on(value).to_string()),
            Some(Switch(command, name, [on, off])) => {
                (command, name, quote(if is_on(value) { on } else { off }))
            }
            Some(NoCounterpart(why)) => return self.note(&place, why),
            None if section.starts_with("destinations") => return,
            None => return self.note(&place, "not known"),
        };
        self.set(&place, command, name, &value);
    }

    /// Sets a key to a value that is TOML already, if bwscan takes it.
    fn set(&mut self, place: &str, command: &'static str, name: &str, value: &str) {
        let line = format!("{name} = {value}\n");
        match (self.check)(command, &line) {
            Ok(()) => {
                let table = self.converted.tables.entry(command).or_default();
                table.push_str(&line);
            }
            Err(problem) => self.note(place, &problem),
        }
    }

    fn note(&mut self, place: &str, why: &str) {
        // A value of several lines stays a comment.
        let note = format!("{place}: {why}").replace(['\n', '\r'], " ");
        self.converted.notes.push(note);
    }
}

/// A number as it is, text in quotes.
fn value_of(value: &str) -> String {
    let is_number = |number: u64| number.to_string() == value;
    match value.parse().is_ok_and(is_number) {
        true => value.to_owned(),
        false => quote(value),
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
        let config = Config::parse(TEXT).unwrap();
        let codes: Vec<String> = config
            .destinations_countries()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(codes, ["ZZ", "US"]);
        let toml = config.convert(|_, _| Ok(())).to_string();
        for line in [
            "scanner = \"\\\"It's\\\" me#1\"",
            "stall_timeout = \"30s\"",
            "data_period = 5",
            "reset_ipv4_changes = true",
            "scanner_country = \"DE\"",
            "destination = [\"https://a.example/1G\", \"https://c.example/1G\"]",
            "destinations_countries = [\"ZZ\", \"US\"]",
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
    fn uploads_are_taken_over() {
        for (value, direction) in [("True", "upload"), ("False", "auto")] {
            let config = Config::parse(&format!("[scanner]\nupload = {value}\n")).unwrap();
            let line = format!("direction = {direction:?}");
            let toml = config.convert(|_, _| Ok(())).to_string();
            assert!(toml.lines().any(|found| found == line), "{toml}");
        }
    }

    #[test]
    fn places_are_those_that_sbws_uses() {
        let user = Path::new("/var/lib/sbws");
        for (text, home, files) in [
            ("", "/var/lib/sbws", "/var/lib/sbws/v3bw"),
            (
                "[paths]\nsbws_home = /srv/sbws\n",
                "/srv/sbws",
                "/srv/sbws/v3bw",
            ),
            (
                "[paths]\nsbws_home = ~\nv3bw_dname = ${sbws_home}/out\n",
                "/var/lib/sbws",
                "/var/lib/sbws/out",
            ),
        ] {
            let config = Config::parse(text).unwrap();
            assert_eq!(config.home(user), Path::new(home));
            assert_eq!(config.bandwidth_files(user), Path::new(files));
        }
        let config = Config::parse("").unwrap();
        let own = config.home(Path::new("/home/scan"));
        assert_eq!(own, Path::new("/home/scan/.sbws"));
    }
}
