//! The configuration file, as operators meet it: what counts, what is refused,
//! and what `bwscan config show` says of it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod command;

use std::process::Command;

use command::bwscan;
use serde_json::Value;

/// A directory with a configuration file, and the program that reads it.
struct Operator(tempfile::TempDir);

impl Operator {
    fn new(config: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("bwscan.toml"), config).unwrap();
        Self(directory)
    }

    /// In the directory, without the file.
    fn bwscan(&self) -> Command {
        let mut command = bwscan();
        command.current_dir(self.0.path());
        command
    }

    fn with_file(&self) -> Command {
        let mut command = self.bwscan();
        command.args(["--config", "bwscan.toml"]);
        command
    }
}

fn shown(command: &mut Command, line: &str) -> Value {
    command.args(["config", "show", "--json"]);
    let output = command.args(line.split_whitespace()).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {error}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The values of an option, and where they come from.
fn of<'a>(shown: &'a Value, option: &str) -> (Vec<&'a str>, &'a str) {
    let options = shown["options"].as_array().unwrap();
    let row = options.iter().find(|row| row["option"] == option).unwrap();
    let values = row["values"].as_array().unwrap().iter();
    let values = values.map(|value| value.as_str().unwrap()).collect();
    (values, row["source"].as_str().unwrap())
}

/// The exit code and what was said on standard error.
fn refusal(command: &mut Command) -> (i32, String) {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code().unwrap(), text)
}

#[test]
fn the_command_line_counts_more_than_the_environment_than_the_file_than_the_default() {
    let operator = Operator::new(
        "data_dir = 'file'\n[scan]\nlink_rate = '3MB'\nscanner = 'file'\nhelpers = 3\n\
         destination = ['https://a/', 'https://b/']\ncontinuous = true\nquiet = false\n\
         log = 'warn'\n",
    );
    let mut command = operator.with_file();
    command.env("BWSCAN_SCANNER", "environment");
    command.env("BWSCAN_LINK_RATE", "2MB");
    let shown = shown(&mut command, "scan --link-rate 1MB");
    assert_eq!(shown["config"], "bwscan.toml");
    assert_eq!(shown["command"], serde_json::json!(["scan"]));
    assert_eq!(of(&shown, "--link-rate"), (vec!["1MB"], "command line"));
    assert_eq!(
        of(&shown, "--scanner"),
        (vec!["environment"], "environment")
    );
    assert_eq!(of(&shown, "--helpers"), (vec!["3"], "file"));
    assert_eq!(of(&shown, "--circuits"), (vec!["100"], "default"));
    assert_eq!(of(&shown, "--data-dir"), (vec!["file"], "file"));
    assert_eq!(of(&shown, "--log"), (vec!["warn"], "file"));
    assert_eq!(of(&shown, "--continuous"), (vec!["true"], "file"));
    assert_eq!(of(&shown, "--quiet"), (vec!["false"], "file"));
    assert_eq!(of(&shown, "--fresh"), (vec!["false"], "default"));
    assert_eq!(of(&shown, "--relay"), (vec![], "default"));
    let destinations = (vec!["https://a/", "https://b/"], "file");
    assert_eq!(of(&shown, "--destination"), destinations);
    let line = |option| {
        let options = shown["options"].as_array().unwrap();
        let row = options.iter().find(|row| row["option"] == option);
        row.unwrap()["line"].clone()
    };
    assert_eq!(
        (line("--helpers"), line("--link-rate")),
        (5.into(), Value::Null)
    );
}

#[test]
fn lists_are_replaced_and_flags_switched_off() {
    let operator = Operator::new(
        "verbose = 3\n[scan]\ndestination = ['https://a/', 'https://b/']\ncontinuous = true\n",
    );
    let line = "-v scan -d https://c/ --continuous=false";
    let shown = shown(&mut operator.with_file(), line);
    assert_eq!(
        of(&shown, "--destination"),
        (vec!["https://c/"], "command line")
    );
    assert_eq!(of(&shown, "--continuous"), (vec!["false"], "command line"));
    assert_eq!(of(&shown, "--verbose"), (vec!["1"], "command line"));
}

#[test]
fn a_command_s_own_table_counts_more_for_the_options_of_every_command() {
    let operator = Operator::new(
        "verbose = 1\nlog = 'info'\n[testnet]\nlog = 'warn'\n[testnet.up]\nverbose = 3\nseed = 9\n",
    );
    let up = shown(&mut operator.with_file(), "testnet up /somewhere --exits 5");
    assert_eq!(of(&up, "--verbose"), (vec!["3"], "file"));
    assert_eq!(of(&up, "--log"), (vec!["warn"], "file"));
    assert_eq!(of(&up, "--seed"), (vec!["9"], "file"));
    assert_eq!(of(&up, "--exits"), (vec!["5"], "command line"));
    let down = shown(&mut operator.with_file(), "testnet down");
    assert_eq!(of(&down, "--verbose"), (vec!["1"], "file"));
    let list = shown(&mut operator.with_file(), "list");
    assert_eq!(of(&list, "--log"), (vec!["info"], "file"));
}

#[test]
fn which_file_is_read() {
    let operator = Operator::new("data_dir = 'named'\n");
    let directory = operator.0.path();
    let user = directory.join("user");
    std::fs::create_dir_all(user.join("bwscan")).unwrap();
    std::fs::write(user.join("bwscan/bwscan.toml"), "data_dir = 'user'\n").unwrap();
    let data = |command: &mut Command| {
        let shown = shown(command.env("XDG_CONFIG_HOME", &user), "list");
        of(&shown, "--data-dir").0.concat()
    };
    assert_eq!(data(&mut operator.bwscan()), "user");
    assert_eq!(data(&mut operator.with_file()), "named");
    let named = |command: &mut Command| data(command.env("BWSCAN_CONFIG", "bwscan.toml"));
    assert_eq!(named(&mut operator.bwscan()), "named");
    assert_eq!(data(operator.bwscan().arg("--no-config")), "");
    assert_eq!(named(operator.bwscan().arg("--no-config")), "");

    for mut command in [operator.bwscan(), operator.bwscan()] {
        command.env("BWSCAN_CONFIG", "nowhere.toml").arg("list");
        let (code, text) = refusal(&mut command);
        assert_eq!(code, 2, "{text}");
        assert!(text.contains("nowhere.toml: there is no such configuration file"));
    }
}

#[test]
fn commands_do_what_the_file_says() {
    let operator = Operator::new("data_dir = 'here'\n[list]\njson = true\n");
    let (code, text) = refusal(operator.with_file().arg("list"));
    assert_eq!(code, 5, "{text}");
    assert!(text.contains("here/results.sqlite"), "{text}");
    std::fs::create_dir(operator.0.path().join("here")).unwrap();
    drop(bw_store::Store::open(operator.0.path().join("here/results.sqlite")).unwrap());
    for (arguments, said) in [
        (&["list"][..], "[]\n"),
        (&["list", "--json"], "[]\n"),
        (&["list", "--json=false"], "no scans yet\n"),
    ] {
        let output = operator.with_file().args(arguments).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), said, "{output:?}");
    }
}

#[test]
fn an_option_that_is_required_may_stand_in_the_file() {
    let operator = Operator::new("[testnet.load]\nurl = 'http://127.0.0.1:1/'\n");
    let line = ["testnet", "load", "nowhere"];
    let (code, text) = refusal(operator.bwscan().args(line));
    assert!(code == 2 && text.contains("--url"), "{text}");
    let (_, text) = refusal(operator.with_file().args(line));
    assert!(
        !text.contains("--url") && text.contains("nowhere"),
        "{text}"
    );
}

#[test]
fn options_that_exclude_or_require_each_other() {
    let operator = Operator::new("[scan]\nquiet = true\nonly = 'unmeasured'\n");
    let relay = "A".repeat(40);
    // What is typed counts more than what it excludes.
    let shown = shown(
        &mut operator.with_file(),
        &format!("scan --json --relay {relay}"),
    );
    assert_eq!(of(&shown, "--quiet"), (vec!["false"], "default"));
    assert_eq!(of(&shown, "--only"), (vec![], "default"));

    let operator = Operator::new(
        "[scan]\nquiet = true\njson = true\n[serve]\ntls_cert = 'x.pem'\nlisten = '127.0.0.1:1'\n",
    );
    for (command, said) in [
        (
            "scan",
            &["cannot be used with", "--json comes from bwscan.toml:3:1"][..],
        ),
        (
            "serve",
            &["--tls-key", "--tls-cert comes from bwscan.toml:5:1"],
        ),
        // Whatever the command, but only the table of the one that runs.
        ("generate", &["results.sqlite"]),
    ] {
        let mut bwscan = operator.with_file();
        let (code, text) = refusal(bwscan.args([command, "--data-dir", "nowhere"]));
        assert_eq!(code, if command == "generate" { 5 } else { 2 }, "{text}");
        for said in said {
            assert!(text.contains(said), "{command}: {text}");
        }
    }
}

#[test]
fn a_wrong_file_stops_every_command_before_it_does_anything() {
    let operator = Operator::new("[generate]\ndayz = 3\n");
    for line in [
        &["list"][..],
        &["scan", "-d", "https://a/"],
        &["config", "show"],
    ] {
        let mut command = operator.with_file();
        let (code, text) = refusal(command.args(["--data-dir", "data"]).args(line));
        assert_eq!(code, 2, "{text}");
        let said = "bwscan: bwscan.toml:2:1: \"dayz\" is no option of bwscan generate; \
                    did you mean days?\n";
        assert_eq!(text, said);
    }
    assert!(!operator.0.path().join("data").exists());
    // Help needs no file.
    let output = operator
        .with_file()
        .args(["scan", "--help"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let help = String::from_utf8(output.stdout).unwrap();
    assert!(help.contains("--continuous\n"), "{help}");
}

#[test]
fn a_wrong_environment_is_not_laid_to_the_file() {
    let operator = Operator::new("[scan]\nhelpers = 3\n");
    let mut command = operator.with_file();
    command.env("BWSCAN_LINK_RATE", "fast").arg("scan");
    let (code, text) = refusal(&mut command);
    assert_eq!(code, 2, "{text}");
    assert!(
        text.contains("--link-rate") && !text.contains("bwscan.toml"),
        "{text}"
    );
}

#[test]
fn names_of_commands_as_values_are_no_commands() {
    let operator = Operator::new("log = 'info'\n[scan]\nhelpers = 3\n[list]\nstore = 'x'\n");
    let line = "--data-dir scan scan --scanner list -d https://a/";
    let shown = shown(&mut operator.with_file(), line);
    assert_eq!(of(&shown, "--data-dir"), (vec!["scan"], "command line"));
    assert_eq!(of(&shown, "--scanner"), (vec!["list"], "command line"));
    assert_eq!(of(&shown, "--helpers"), (vec!["3"], "file"));
    assert_eq!(of(&shown, "--log"), (vec!["info"], "file"));
}

#[test]
fn the_example_in_the_documentation_is_right() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/cli.md");
    let page = std::fs::read_to_string(page).unwrap();
    let (_, rest) = page.split_once("```toml\n").unwrap();
    let (example, _) = rest.split_once("```").unwrap();
    let operator = Operator::new(example);
    let shown = shown(&mut operator.with_file(), "scan");
    assert_eq!(of(&shown, "--destination").1, "file");
    // The same with everything that is commented out.
    let all: String = example
        .lines()
        .map(|line| {
            line.strip_prefix("#")
                .filter(|rest| !rest.starts_with(' '))
                .unwrap_or(line)
        })
        .flat_map(|line| [line, "\n"])
        .collect();
    assert!(all.len() < example.len(), "{example}");
    Operator::new(&all)
        .with_file()
        .args(["config", "show"])
        .output()
        .unwrap();
    let output = Operator::new(&all)
        .with_file()
        .args(["config", "show"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_person_sees_option_value_and_origin() {
    let operator = Operator::new("[scan]\n\ninterval = '6h'\n");
    let mut command = operator.with_file();
    let output = command.args(["config", "show", "scan"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let row = text
        .lines()
        .find(|line| line.contains("--interval"))
        .unwrap();
    let words: Vec<_> = row.split_whitespace().collect();
    assert_eq!(words, ["--interval", "6h", "bwscan.toml:3"]);
    assert!(!text.contains("--config"), "{text}");
    let (code, text) = refusal(
        operator
            .with_file()
            .args(["config", "show", "scan", "--nought"]),
    );
    assert!(code == 2 && text.contains("--nought"), "{text}");
}
