use super::*;

fn parse(text: &str) -> Result<ConfigFile, String> {
    ConfigFile::parse(Path::new("bwscan.toml"), text).map_err(|error| error.to_string())
}

/// The arguments that a file stands for, those of all commands together.
fn arguments(text: &str) -> Vec<String> {
    let config = parse(text).unwrap();
    let arguments = config.settings.iter().flat_map(|one| &one.arguments);
    arguments
        .map(|one| one.to_str().unwrap().to_owned())
        .collect()
}

#[test]
fn values_of_every_kind() {
    let text = "verbose = 2\nlog_json = true\n[scan]\ndestination = ['a', \"b\"]\nquiet = false\n\
                link-rate = '25MB'\nhelpers = 0x0a\nprecision = '2.5%'\ninterval = '6h'\n\
                [generate]\nnow = 2026-11-20T12:30:00\ndestinations_countries = ['ZZ', 'US']\n\
                [testnet.up]\nrelays = 3\n";
    assert_eq!(
        arguments(text),
        [
            "--verbose",
            "--verbose",
            "--log-json",
            "--destination=a",
            "--destination=b",
            "--link-rate=25MB",
            "--helpers=10",
            "--precision=2.5%",
            "--interval=6h",
            "--now=2026-11-20T12:30:00",
            "--destinations-countries=ZZ",
            "--destinations-countries=US",
            "--relays=3",
        ]
    );
    assert!(arguments("").is_empty());
}

#[test]
fn errors_name_the_place_and_what_to_do() {
    for (text, said) in [
        ("[scan", "bwscan.toml:1:6: unclosed table"),
        (
            "[scna]",
            ":1:2: \"scna\" is no command of bwscan; did you mean scan?",
        ),
        (
            "[testnet.upp]",
            ":1:10: \"upp\" is no command of bwscan testnet; did you mean up?",
        ),
        ("[zzz]", "\"bwscan --help\" lists them"),
        (
            "[scan]\nintervall = '1h'",
            ":2:1: \"intervall\" is no option of bwscan scan; did you mean interval?",
        ),
        ("[scan]\nmax_tine = '1h'", "did you mean max_time?"),
        (
            "interval = '1h'",
            "\"interval\" is no option of bwscan; it belongs below [scan]",
        ),
        ("intervall = '1h'", "did you mean interval, below [scan]?"),
        ("[scan]\nzzz = 1", "\"bwscan scan --help\" lists them"),
        (
            "scan = 3",
            ":1:1: scan is a command: put its options below [scan]",
        ),
        ("[[scan]]\nhelpers = 1", "scan is a command"),
        (
            "[data_dir]",
            "data_dir is an option, not a table: write data_dir = VALUE",
        ),
        (
            "[scan]\nmin_time = 3",
            ":2:12: min_time: invalid value '3' for '--min-time <TIME>': expected a time with its unit",
        ),
        (
            "[scan]\n# ä\n  helpers =\t0",
            ":3:13: helpers: invalid value '0'",
        ),
        (
            "[scan]\ndestination = [\n 'a',\n 7.5,\n ['ä'], {}]",
            ":5:2: destination: one value is expected, not a list",
        ),
        (
            "[scan]\nrelay = ['é', 'x']",
            ":2:10: relay: invalid value 'é'",
        ),
        ("[scan]\ndestination = [{}]", "not a table"),
        (
            "[generate]\ndays = [1, 2]",
            ":2:8: days: one value is expected, not a list",
        ),
        (
            "[generate]\ndays = 99999999999999999999999999999999999999999999",
            "too large",
        ),
        (
            "[generate]\nscale = 'torflw'",
            "[possible values: torflow, torflow-pid",
        ),
        (
            "[scan]\nquiet = 'yes'",
            ":2:9: quiet: true or false is expected",
        ),
        ("verbose = 256", "a number from 0 to 255"),
        ("verbose = true", "a number from 0 to 255"),
        (
            "[scan]\nmin-time = '1s'\nmin_time = '2s'",
            ":3:1: min_time is given in line 2 too",
        ),
        (
            "[scan]\nbaseurl = 'a'\ndestination = 'b'",
            ":3:1: destination is given in line 2 too",
        ),
        (
            "[scan]\nhelp = true",
            ":2:1: help: it is for the command line only",
        ),
        ("version = true", "for the command line only"),
        (
            "config = 'x'",
            ":1:1: config: a configuration file cannot name another",
        ),
        ("no_config = true", "cannot name another"),
        (
            "[completions]\nshell = 'bash'",
            "\"shell\" is no option of bwscan completions",
        ),
    ] {
        let error = parse(text).unwrap_err();
        assert!(error.contains(said), "{text}\n{error}");
        assert!(!error.contains('\n'), "{error}");
    }
}

/// Today's options and those of some day.
#[test]
fn every_option_of_every_command_is_a_key() {
    let mut program = Args::command();
    program.build();
    let mut tables = vec![Vec::new()];
    add_tables(&program, Vec::new(), &mut tables);
    assert!(tables.contains(&vec!["testnet".to_owned(), "up".to_owned()]));
    let mut count = 0;
    for names in tables {
        let command = subcommand(&program, &names).unwrap();
        for argument in command.get_arguments() {
            let Some(long) = argument.get_long() else {
                continue;
            };
            let default = argument.get_default_values().first();
            let value = match (argument.get_action(), default) {
                (ArgAction::SetTrue, _) => "true".to_owned(),
                (ArgAction::Count, _) => "1".to_owned(),
                (_, Some(default)) => format!("{default:?}"),
                (_, None) => "'?'".to_owned(),
            };
            for key in [long.to_owned(), long.replace('-', "_")] {
                let table = match names.as_slice() {
                    [] => String::new(),
                    names => format!("[{}]\n", names.join(".")),
                };
                let result = parse(&format!("{table}{key} = {value}"));
                match result {
                    Ok(config) => assert_eq!(config.settings[0].id, *argument.get_id()),
                    Err(error) => assert!(
                        not_in_a_file(argument).is_some()
                            || value == "'?'" && error.contains("invalid value '?'"),
                        "{error}"
                    ),
                }
                count += 1;
            }
        }
    }
    assert!(count > 200, "{count}");
}

#[test]
fn hostile_files() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bwscan.toml");
    assert!(ConfigFile::read(&path).unwrap().is_none());
    let deep = format!("x = {}", "[".repeat(100_000));
    for (content, said) in [
        (vec![b'#'; 2 << 20], "more than 1048576 bytes"),
        (
            b"# fine\n\xc3\xa4\xff".to_vec(),
            "bwscan.toml:2:2: this is not UTF-8",
        ),
        (b"a = \0".to_vec(), "bwscan.toml:1:"),
        (deep.into_bytes(), "bwscan.toml:1:"),
    ] {
        std::fs::write(&path, content).unwrap();
        let error = ConfigFile::read(&path).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
    let error = ConfigFile::read(directory.path()).unwrap_err().to_string();
    assert!(
        error.contains("the configuration cannot be read"),
        "{error}"
    );
}

#[test]
fn positions_count_characters() {
    let at = |offset| Position::of("ab\näö=1\n", offset).to_string();
    assert_eq!(
        [at(0), at(2), at(3), at(7), at(8)],
        ["1:1", "1:3", "2:1", "2:3", "2:4"]
    );
    assert_eq!(at(999), "3:1");
}

#[test]
fn the_example_of_the_manual_page_is_right() {
    let file = ConfigFile::parse(Path::new("bwscan.toml"), crate::examples::CONFIG_FILE).unwrap();
    assert_eq!(file.of(&["scan".to_owned()]).count(), 4);
}
