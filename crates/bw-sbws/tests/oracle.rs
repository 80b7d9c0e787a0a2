//! sbws itself as the oracle: a made-up home of 300 relays goes through the
//! sbws that is installed, its clock frozen, and through us, with every option
//! of `generate`. With `BWSCAN_REQUIRE_PEERS=1` in the environment the absence
//! of sbws or faketime is a failure, else it is told. `BWSCAN_SEED` repeats a run.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "a test that is skipped says so")]

mod compatible;
mod support;

use std::path::Path;
use std::process::Command;

use bw_file::CountryCode;
use bw_results::UnixMillis;
use bw_sbws::{GenerateError, Header, Home, Options, Scaling, Version, export};
use bw_store::{Filter, Store};
use support::{HomePlan, iso, write_home};

/// 2026-11-20 12:30:00 UTC; the home ends half an hour before it.
const NOW: u64 = 1_795_177_800;

/// After everything that is imported here: nothing is refused for its time.
const FAR: UnixMillis = UnixMillis::new(u64::MAX);

/// The version of sbws that is installed; none without it or faketime.
fn installed() -> Option<Version> {
    let output = |program: &str| Command::new(program).arg("--version").output();
    let sbws = output("sbws").ok().filter(|output| output.status.success());
    let (Some(sbws), Ok(_)) = (sbws, output("faketime")) else {
        assert!(
            std::env::var_os("BWSCAN_REQUIRE_PEERS").is_none(),
            "sbws or faketime is not installed"
        );
        println!("SKIPPED: sbws or faketime is not installed");
        return None;
    };
    let text = String::from_utf8_lossy(&sbws.stdout).into_owned();
    println!("oracle: {text}");
    let version = text.split_whitespace().last().unwrap_or_default();
    let known = [
        ("1.5.", Version::V1_5_2),
        ("1.9.", Version::V1_9_0),
        ("2.", Version::V2_2_0),
    ];
    let found = known.iter().find(|(start, _)| version.starts_with(start));
    if found.is_none() {
        println!("SKIPPED: files of sbws {version} are not made");
    }
    found.map(|&(_, version)| version)
}

fn seed() -> u64 {
    let given = std::env::var("BWSCAN_SEED").ok();
    let seed = given.map_or_else(rand::random, |text| text.parse().unwrap());
    println!("BWSCAN_SEED={seed}");
    seed
}

/// Runs `generate` and returns what it wrote; none if it wrote nothing.
fn sbws_generate(
    version: Version,
    home: &Path,
    general: &str,
    arguments: &[&str],
) -> Option<String> {
    let config = home.join("sbws.ini");
    // Unknown to older ones, which would refuse it.
    let nickname = match version {
        Version::V1_5_2 => "",
        _ => "dirauth_nickname = test\n",
    };
    let text = format!(
        "[paths]\nsbws_home = {}\n[general]\n{general}\n[scanner]\nnickname = oracle\n\
         country = ZZ\n{nickname}[destinations]\nfoo = on\nbar = off\nbaz = on\n\
         [destinations.foo]\nurl = https://x.example/1G\ncountry = ZZ\n\
         [destinations.bar]\nurl = https://y.example/1G\ncountry = FR\n\
         [destinations.baz]\nurl = https://z.example/1G\ncountry = DE\n\
         [logging]\nto_file = no\nto_stdout_level = error\n",
        home.display()
    );
    std::fs::write(&config, text).unwrap();
    let made = home.join("v3bw/made.v3bw");
    let _ = std::fs::remove_file(&made);
    let clock = iso(NOW).replace('T', " ");
    let output = Command::new("faketime")
        .args(["-f", &clock, "sbws", "-c"])
        .arg(&config)
        .args(["generate", "--output"])
        .arg(&made)
        .args(arguments)
        .env("TZ", "UTC")
        .output()
        .unwrap();
    if !made.exists() {
        let text = String::from_utf8_lossy(&output.stderr);
        println!(
            "sbws {arguments:?} wrote nothing: {}",
            text.lines().last().unwrap_or("")
        );
    }
    std::fs::read_to_string(&made).ok()
}

/// Our file of the store.
fn generate(store: &Store, options: Options) -> Result<String, GenerateError> {
    let mut header = Header::default();
    header.dirauth_nickname = Some("test".to_owned());
    header.scanner_country = CountryCode::parse(b"ZZ");
    header.destinations_countries = ["ZZ", "DE"]
        .iter()
        .filter_map(|code| CountryCode::parse(code.as_bytes()))
        .collect();
    compatible::from_store(store, options, header)
}

fn without_version(text: &str) -> Vec<&str> {
    text.lines()
        .filter(|line| !line.starts_with("software_version="))
        .collect()
}

fn plan(seed: u64) -> HomePlan {
    HomePlan {
        seed,
        relays: 300,
        days: 9,
        per_day: 0.8,
        consensus_times: 20,
        end: NOW - 1_800,
        odd: true,
    }
}

#[test]
fn every_option_of_generate() {
    let Some(version) = installed() else { return };
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path();
    let results = write_home(home, &plan(seed())).unwrap();
    let mut store = Store::open(home.join("store.db")).unwrap();
    let report = Home::new(home).import_into(&mut store, FAR).unwrap();
    assert_eq!(report.added, results, "{report:?}");
    assert!(report.bad_lines > 0, "the home has bad lines");

    let mut compared = 0;
    let mut check = |general: &str, arguments: &[&str], change: &dyn Fn(&mut Options)| {
        let mut options = Options::new(version, NOW as f64);
        change(&mut options);
        let ours = generate(&store, options);
        match sbws_generate(version, home, general, arguments) {
            Some(theirs) => {
                let ours = ours.unwrap_or_else(|error| panic!("{arguments:?}: {error}"));
                let (ours, theirs) = (without_version(&ours), without_version(&theirs));
                for (ours, theirs) in ours.iter().zip(&theirs) {
                    assert_eq!(ours, theirs, "{arguments:?} {general}");
                }
                assert_eq!(ours.len(), theirs.len(), "{arguments:?} {general}");
                compared += 1;
            }
            None => assert!(ours.is_err(), "{arguments:?} {general}"),
        }
    };
    let torflow = |margin| Scaling::Torflow { margin };
    check("", &[], &|_| {});
    check("", &["-t"], &|_| {});
    check("", &["-w"], &|o| o.scaling = Scaling::Raw);
    check("", &["--scale-sbws"], &|o| {
        o.scaling = Scaling::Sbws { constant: 7500 };
    });
    check("", &["--scale-sbws", "--scale-constant", "123456"], &|o| {
        o.scaling = Scaling::Sbws { constant: 123_456 };
    });
    check("", &["-m", "0.003"], &|o| o.scaling = torflow(0.003));
    check("", &["-m", "1"], &|o| o.scaling = torflow(1.0));
    for digits in [1, 3, 5, 9] {
        check("", &["-r", &digits.to_string()], &|o| o.digits = digits);
    }
    for seconds in [86_400, 200_000, 700_000] {
        check("", &["-p", &seconds.to_string()], &|o| {
            o.secs_recent = Some(seconds);
        });
    }
    for seconds in [1_000, 86_400, 600_000] {
        check("", &["-a", &seconds.to_string()], &|o| {
            o.secs_away = Some(seconds);
        });
    }
    for number in [0, 2, 5, 50] {
        check("", &["-n", &number.to_string()], &|o| o.min_num = number);
    }
    check(
        "",
        &["-p", "300000", "-a", "40000", "-n", "2", "-r", "4"],
        &|o| {
            o.secs_recent = Some(300_000);
            o.secs_away = Some(40_000);
            o.min_num = 2;
            o.digits = 4;
        },
    );
    check("reset_bw_ipv4_changes = on", &[], &|o| o.reset_ipv4 = true);
    check("data_period = 2", &["-w"], &|o| {
        o.scaling = Scaling::Raw;
        o.data_period = 2;
    });
    println!("{compared} files are equal");
    assert!(compared > 20);
}

#[test]
fn sbws_loads_what_is_exported_and_makes_the_same_file_of_it() {
    let Some(version) = installed() else { return };
    let directory = tempfile::tempdir().unwrap();
    let (from, to) = (directory.path().join("from"), directory.path().join("to"));
    let mut plan = plan(seed());
    // In one file a day, so that the order of results is the same.
    plan.odd = false;
    write_home(&from, &plan).unwrap();
    let mut store = Store::open(directory.path().join("store.db")).unwrap();
    Home::new(&from).import_into(&mut store, FAR).unwrap();
    std::fs::create_dir_all(to.join("datadir")).unwrap();
    std::fs::create_dir_all(to.join("v3bw")).unwrap();
    let lines = export(&store, &Filter::all(), &to.join("datadir")).unwrap();
    assert!(lines > 1_000);
    std::fs::create_dir_all(to.join("tor")).unwrap();
    for file in [
        "tor/cached-consensus",
        "tor/cached-descriptors",
        "state.dat",
    ] {
        std::fs::copy(from.join(file), to.join(file)).unwrap();
    }
    assert_eq!(
        Home::new(&to).files().unwrap().len(),
        Home::new(&from).files().unwrap().len()
    );
    for arguments in [&[][..], &["-w"]] {
        let before = sbws_generate(version, &from, "", arguments).unwrap();
        assert_eq!(sbws_generate(version, &to, "", arguments).unwrap(), before);
    }
}
