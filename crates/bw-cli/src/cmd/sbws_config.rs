//! The configuration of sbws as one of bwscan.

use std::path::Path;

use bw_sbws::{Config, Converted};

use crate::config::ConfigFile;

/// The options of bwscan that `config` becomes, and notes on all others.
pub(super) fn converted(config: &Config) -> Converted {
    config.convert(|command, line| {
        match ConfigFile::parse(Path::new(""), &format!("[{command}]\n{line}")) {
            Ok(_) => Ok(()),
            Err(error) => {
                let text = error.to_string();
                // Without the place in a text that nobody sees.
                let problem = text.split_once(": ").map_or(&*text, |(_, problem)| problem);
                Err(problem.to_owned())
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fmt::Write as _;

    use super::*;

    /// As `--config` reads it.
    fn assert_is_read(toml: &str) {
        if let Err(error) = ConfigFile::parse(Path::new("bwscan.toml"), toml) {
            panic!("{error}\n{toml}");
        }
    }

    #[test]
    fn what_is_written_is_read() {
        // Every key that is known, with values that fit and that do not.
        for value in [
            "7",
            "on",
            "Off",
            "text",
            "",
            "-1.5e3",
            "\"",
            "a\n  b",
            "https://x/y",
        ] {
            let mut sections = BTreeMap::<String, String>::new();
            for (section, key) in Config::keys() {
                let section = section.replace('*', "d");
                let text = sections.entry(section).or_default();
                let _ = writeln!(text, "{} = {value}", key.replace('*', "anything"));
            }
            let one = sections.entry("destinations".to_owned()).or_default();
            one.push_str("d = on\ne = on\n");
            let one = sections.entry("destinations.d".to_owned()).or_default();
            let _ = writeln!(one, "url = {value}\ncountry = {value}\nverify = {value}");
            let mut ini = String::new();
            for (section, keys) in sections {
                let _ = write!(ini, "[{section}]\n{keys}");
            }
            ini.push_str("[destinations.e]\nurl = https://e/\nverify = other.pem\n");
            assert_is_read(&converted(&Config::parse(&ini).unwrap()).to_string());
        }
    }

    #[test]
    fn defaults_and_examples_of_sbws_are_read() {
        let folder = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../../shared/data/sbws/config"
        );
        let Ok(files) = std::fs::read_dir(folder) else {
            println!("SKIPPED: no configurations of sbws at {folder}");
            return;
        };
        let mut count = 0;
        for file in files {
            let path = file.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "ini") {
                let toml = converted(&Config::read(&path).unwrap()).to_string();
                assert_is_read(&toml);
                assert!(!toml.contains("not known"), "{}: {toml}", path.display());
                count += 1;
            }
        }
        assert!(count > 0, "{folder}");
    }

    #[test]
    fn what_does_not_fit_is_a_note() {
        let text = "[scanner]\ndirauth_nickname = a_b\ndownload_min = soon\ncountry = AA\n";
        let toml = converted(&Config::parse(text).unwrap()).to_string();
        for note in [
            "# [scanner] dirauth_nickname = a_b: dirauth_nickname: invalid value",
            "# [scanner] country = AA: this is what sbws comes with",
            "# [scanner] download_min = soon: min_time: invalid value",
        ] {
            assert!(toml.contains(note), "{toml}");
        }
    }
}
