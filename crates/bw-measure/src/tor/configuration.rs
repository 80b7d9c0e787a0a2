//! arti's configuration: its defaults, ours, the operator's files, our directory.

use std::io::Read;
use std::path::Path;

use arti_client::TorClientConfig;
use toml::de::{DeTable, DeValue};
use tor_config::load::{ConfigResolveOptions, resolve_return_results};
use tor_config::{ConfigurationSource, ConfigurationSources, sources::MustRead};

use super::TorSettings;
use crate::error::chain;
use crate::{Error, ErrorKind};

/// Settings in which a scanner differs from a browser's client: circuits
/// only when we ask for them, no learned timeouts (they would cut off slow
/// relays), no padding, which would be measured along.
const DEFAULTS: &str = r#"
[preemptive_circuits]
initial_predicted_ports = []
min_exit_circs_for_port = 0

[override_net_params]
cbtdisabled = 1

[channel]
padding = "none"
"#;

/// Sections of an arti.toml that are the program arti's own, not its client
/// library's.
const OF_THE_PROGRAM: [&str; 6] = [
    "application",
    "logging",
    "metrics",
    "onion_services",
    "proxy",
    "rpc",
];
/// A file that is larger is no configuration.
const MAX_BYTES: u64 = 1 << 20;

/// Reads the configuration that `settings` name.
///
/// A key that arti does not know is an error: a misspelt one could send the
/// scan to the public network.
pub(super) fn configuration(settings: &TorSettings) -> Result<TorClientConfig, Error> {
    let files = Files::read(&settings.config)?;
    let mut sources = ConfigurationSources::new_empty();
    for text in [DEFAULTS.to_owned(), storage(&settings.directory)] {
        sources.push_source(ConfigurationSource::from_verbatim(text), MustRead::MustRead);
    }
    for path in &settings.config {
        sources.push_source(
            ConfigurationSource::from_path(path.clone()),
            MustRead::MustRead,
        );
    }
    let tree = sources.load().map_err(|error| files.refuse(&error))?;
    let options = ConfigResolveOptions::default();
    let resolved = resolve_return_results::<TorClientConfig>(&tree, &options)
        .map_err(|error| files.refuse(&error))?;
    let keys = resolved.unrecognized.iter().map(ToString::to_string);
    let unknown: Vec<String> = keys
        .filter(|key| !OF_THE_PROGRAM.contains(&key.split(['.', '[']).next().unwrap_or_default()))
        .map(|key| format!("{}unknown key {key}", files.place(&key)))
        .collect();
    if unknown.is_empty() {
        return Ok(resolved.value);
    }
    let text = format!("Tor configuration: {}", unknown.join("; "));
    Err(Error::new(ErrorKind::Configuration, text))
}

/// The operator's files, to tell where something stands.
struct Files<'a>(Vec<(&'a Path, String)>);

impl<'a> Files<'a> {
    fn read(paths: &'a [std::path::PathBuf]) -> Result<Self, Error> {
        // arti reads directories too; what stands in them has no place for us.
        let paths = paths.iter().filter(|path| !path.is_dir());
        let files = paths.map(|path| {
            let refuse = |why: &dyn std::fmt::Display| {
                let text = format!("Tor configuration {}: {why}", path.display());
                Error::new(ErrorKind::Configuration, text)
            };
            let mut text = String::new();
            std::fs::File::open(path)
                .and_then(|file| file.take(MAX_BYTES + 1).read_to_string(&mut text))
                .map_err(|error| refuse(&error))?;
            if text.len() as u64 > MAX_BYTES {
                return Err(refuse(&format_args!("it has more than {MAX_BYTES} bytes")));
            }
            if let Err(error) = DeTable::parse(&text) {
                let at = error.span().map_or(text.len(), |span| span.start);
                let text = format!(
                    "Tor configuration {}:{}: {}",
                    path.display(),
                    position(&text, at),
                    error.message()
                );
                return Err(Error::new(ErrorKind::Configuration, text));
            }
            Ok((path.as_path(), text))
        });
        files.collect::<Result<_, _>>().map(Self)
    }

    /// `FILE:LINE:COLUMN: ` of the key, in the file that has the last say.
    fn place(&self, key: &str) -> String {
        let places = self.0.iter().rev().filter_map(|(path, text)| {
            let table = DeTable::parse(text).ok()?;
            let at = find(table.get_ref(), "", key)?;
            Some(format!("{}:{}: ", path.display(), position(text, at)))
        });
        places.into_iter().next().unwrap_or_default()
    }

    /// An error of arti, with the place of the key that it names.
    fn refuse(&self, error: &dyn std::error::Error) -> Error {
        let text = chain(error);
        // arti's layers say that there is an error before the last says which.
        let text = text
            .rsplit_once("load configuration: ")
            .map_or(&*text, |(_, cause)| cause);
        let text = text
            .strip_prefix("Config semantically incorrect: ")
            .unwrap_or(text);
        // "… for key "default.tor_network.authorities" in …", with our own section.
        let key = text
            .split_once("for key \"default.")
            .and_then(|(_, rest)| Some(rest.split_once('"')?.0));
        let text = match key {
            Some(key) => {
                let what = text.split(" for key ").next().unwrap_or(text);
                format!("Tor configuration: {}{key}: {what}", self.place(key))
            }
            None => {
                let paths: Vec<_> = self.0.iter().map(|(path, _)| path.display()).collect();
                let paths: Vec<String> = paths.iter().map(ToString::to_string).collect();
                format!("Tor configuration ({}): {text}", paths.join(", "))
            }
        };
        Error::new(ErrorKind::Configuration, text)
    }
}

/// Where the key stands that arti calls `wanted`, in bytes.
fn find(table: &DeTable<'_>, prefix: &str, wanted: &str) -> Option<usize> {
    table.iter().find_map(|(key, value)| {
        let name = key.get_ref();
        let is_bare = !name.is_empty()
            && name
                .chars()
                .all(|letter| letter.is_ascii_alphanumeric() || "_-".contains(letter));
        let name = if is_bare {
            name.to_string()
        } else {
            format!("{name:?}")
        };
        let path = match prefix {
            "" => name,
            prefix => format!("{prefix}.{name}"),
        };
        if path == wanted {
            return Some(key.span().start);
        }
        within(value.get_ref(), &path, wanted)
    })
}

fn within(value: &DeValue<'_>, path: &str, wanted: &str) -> Option<usize> {
    match value {
        _ if !wanted.starts_with(path) => None,
        DeValue::Table(table) => find(table, path, wanted),
        DeValue::Array(values) => values.iter().enumerate().find_map(|(index, value)| {
            within(value.get_ref(), &format!("{path}[{index}]"), wanted)
        }),
        _ => None,
    }
}

/// `LINE:COLUMN`, from 1.
fn position(text: &str, at: usize) -> String {
    let before = text.get(..at).unwrap_or(text);
    let line = before.rsplit('\n').next().unwrap_or_default();
    let number = before.matches('\n').count() + 1;
    format!("{number}:{}", line.chars().count() + 1)
}

/// Cache and state under `directory`, as TOML.
fn storage(directory: &Path) -> String {
    let quoted = |name: &str| {
        // A debug string is a TOML string for all that can be in a path.
        format!("{:?}", directory.join(name).to_string_lossy())
    };
    format!(
        "[storage]\ncache_dir = {{ literal = {cache} }}\nstate_dir = {{ literal = {state} }}\n",
        cache = quoted("cache"),
        state = quoted("state"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The refusal of a file with this text.
    fn refusal(text: &str) -> String {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("arti.toml");
        std::fs::write(&path, text).unwrap();
        let mut settings = TorSettings::new(directory.path());
        settings.config = vec![path];
        configuration(&settings)
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default()
    }

    #[test]
    fn a_misspelt_key_is_an_error_with_its_place() {
        let said =
            refusal("[path_rules]\nipv4_subnet_family_prefix = 33\n\n[tor_netwerk]\nx = 1\n");
        assert!(
            said.contains("arti.toml:4:2: unknown key tor_netwerk"),
            "{said}"
        );
        let said = refusal("[channel]\n  padings = 'none'\n");
        assert!(
            said.contains("arti.toml:2:3: unknown key channel.padings"),
            "{said}"
        );
        let said = refusal("[tor_network]\nauthorities = { v3ident = [] }\n");
        assert!(
            said.contains("arti.toml:2:17: unknown key tor_network.authorities.v3ident"),
            "{said}"
        );
    }

    #[test]
    fn wrong_values_and_wrong_syntax_have_their_place() {
        let said = refusal("[path_rules]\nipv4_subnet_family_prefix = 'x'\n");
        assert!(
            said.contains("arti.toml:2:1: path_rules.ipv4_subnet_family_prefix: "),
            "{said}"
        );
        let said = refusal("[path_rules\n");
        assert!(said.contains("arti.toml:1:"), "{said}");
    }

    #[test]
    fn what_the_program_arti_reads_is_left_alone() {
        assert_eq!(
            refusal("[proxy]\nsocks_listen = 9150\n[logging]\nconsole = 'info'\n"),
            ""
        );
    }
}
