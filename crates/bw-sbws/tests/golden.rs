//! Files as sbws 1.5.2, 1.9.0 and 2.2.0 wrote them, byte for byte but for the
//! order of lines where sbws's own depends on the file system.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "a test that is skipped says so")]

mod compatible;

use std::io::Read;
use std::path::{Path, PathBuf};

use bw_file::CountryCode;
use bw_results::UnixMillis;
use bw_sbws::{GenerateError, Generator, Header, Home, Options, Scaling, Version};
use bw_store::Store;

/// 2026-11-20 12:30:00 UTC.
const NOW: f64 = 1_795_177_800.0;

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data")
}

/// A home: one of ours, or one of sbws's own, which are not ours to
/// distribute and are read beside the repository.
fn home(name: &str) -> Option<PathBuf> {
    let ours = data().join("homes").join(name);
    let theirs = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../../shared/data/sbws/homes"
    );
    let theirs = Path::new(theirs).join(name);
    [ours, theirs].into_iter().find(|path| path.is_dir())
}

fn golden(name: &str) -> Option<String> {
    let file = std::fs::File::open(data().join(format!("golden/{name}.v3bw.gz"))).ok()?;
    let mut text = String::new();
    flate2::read::GzDecoder::new(file)
        .read_to_string(&mut text)
        .unwrap();
    Some(text)
}

fn options(version: Version, home: &str, option: &str) -> Options {
    let now = match home {
        "edge" | "synth200" => NOW,
        "chutney2019" => 1_553_522_400.0,
        _ => 1_524_052_800.0,
    };
    let mut options = Options::new(version, now);
    match option {
        "" => {}
        "raw" => options.scaling = Scaling::Raw,
        "sbwsscale" => options.scaling = Scaling::Sbws { constant: 7500 },
        "m001r3" => {
            options.scaling = Scaling::Torflow { margin: 0.01 };
            options.digits = 3;
        }
        "n2" => options.min_num = 2,
        "min8" => options.min_num = 8,
        "a1d" | "away1d" => options.secs_away = Some(86_400),
        "p2d" => options.secs_recent = Some(172_800),
        "resetip" => options.reset_ipv4 = true,
        other => panic!("{other}"),
    }
    options
}

fn header(home: &Home) -> Header {
    let country = CountryCode::parse(b"ZZ").unwrap();
    let mut header = Header::default();
    header.state = home.state().unwrap().unwrap_or_default();
    header.scanner_country = Some(country);
    header.destinations_countries = vec![country];
    header.dirauth_nickname = Some("test".to_owned());
    header
}

/// From the home's files, as sbws reads them.
fn from_home(path: &Path, options: Options) -> Result<String, GenerateError> {
    let home = Home::new(path);
    let mut generator = Generator::new(options);
    for file in home.files().unwrap() {
        // Some are gzipped, which sbws itself does not read.
        if !generator.options().reads(&file.date) {
            continue;
        }
        file.for_each_result(|_, result| {
            if let Ok(result) = result {
                generator.add(result.fingerprint, result.facts);
            }
        })
        .unwrap();
    }
    let network = home.network(false).unwrap();
    let file = generator.finish(&header(&home), network.as_ref())?;
    Ok(String::from_utf8(file).unwrap())
}

/// After everything that is imported here: nothing is refused for its time.
const FAR: UnixMillis = UnixMillis::new(u64::MAX);

/// From a store into which the home was imported, twice.
fn from_store(path: &Path, options: Options) -> Result<String, GenerateError> {
    let directory = tempfile::tempdir().unwrap();
    let mut store = Store::open(directory.path().join("store.db")).unwrap();
    let home = Home::new(path);
    home.import_into(&mut store, FAR).unwrap();
    home.import_into(&mut store, FAR).unwrap();
    compatible::from_store(&store, options, header(&home))
}

/// The header, then the relay lines, without what says who made it when.
fn parts(text: &str) -> (Vec<&str>, Vec<&str>) {
    let (header, relays) = text.split_once("=====\n").unwrap();
    let header = header.lines().filter(|line| {
        !line.starts_with("file_created=") && !line.starts_with("software_version=")
    });
    (header.collect(), relays.lines().collect())
}

/// Several files of one day, which sbws reads in whatever order.
fn has_several_files_a_day(home: &Path) -> bool {
    let files = Home::new(home).files().unwrap();
    files.windows(2).any(|pair| pair[0].date == pair[1].date)
}

fn check(home_name: &str, version: Version, option: &str) -> bool {
    let dot = if option.is_empty() { "" } else { "." };
    let name = format!("{home_name}.{}{dot}{option}", version.as_str());
    let Some(expected) = golden(&name) else {
        return false;
    };
    let Some(home) = home(home_name) else {
        println!("SKIPPED {name}: the home {home_name} is not there");
        return true;
    };
    for (how, made) in [
        (
            "home",
            from_home(&home, options(version, home_name, option)),
        ),
        (
            "store",
            from_store(&home, options(version, home_name, option)),
        ),
    ] {
        if (home_name, how) == ("results", "store") {
            // A made-up home with the same failure twice: a store keeps one.
            continue;
        }
        let made = made.unwrap_or_else(|error| panic!("{name} from {how}: {error}"));
        let ((expected_header, mut expected_lines), (made_header, mut made_lines)) =
            (parts(&expected), parts(&made));
        assert_eq!(made_header, expected_header, "{name} from {how}");
        if has_several_files_a_day(&home) {
            let bandwidths = |lines: &[&str]| -> Vec<String> {
                let first = lines.iter().map(|line| line.split(' ').next().unwrap());
                first.map(str::to_owned).collect()
            };
            assert_eq!(
                bandwidths(&made_lines),
                bandwidths(&expected_lines),
                "{name}"
            );
            expected_lines.sort_unstable();
            made_lines.sort_unstable();
        }
        assert_eq!(made_lines.len(), expected_lines.len(), "{name} from {how}");
        for (made, expected) in made_lines.iter().zip(&expected_lines) {
            assert_eq!(made, expected, "{name} from {how}");
        }
    }
    true
}

#[test]
fn every_golden_file_is_made_again() {
    let options = [
        "",
        "raw",
        "sbwsscale",
        "m001r3",
        "n2",
        "min8",
        "a1d",
        "away1d",
        "p2d",
        "resetip",
    ];
    let homes = [
        "chutney2019",
        "edge",
        "results",
        "results_0_consensus_bw",
        "results_away",
        "results_no_consensus_bw",
        "results_no_desc_bw_avg",
        "results_no_desc_bw_avg_obs",
        "results_no_desc_bw_obs",
        "synth200",
    ];
    let mut checked = 0;
    for version in Version::ALL {
        for home in homes {
            for option in options {
                checked += usize::from(check(home, version, option));
            }
        }
    }
    let files = std::fs::read_dir(data().join("golden")).unwrap().count();
    assert_eq!(checked, files, "every file in golden/ belongs to a case");
}

#[test]
fn nothing_that_a_store_was_given_forges_lines_or_panics() {
    let home = home("edge").unwrap();
    for (hostile, kept) in [
        (r#"{"nickname": "x bw=7\nbw=9 node_id=$"}"#, true),
        (r#"{"time": 1e300}"#, false),
        (r#"{"time": -5.0}"#, false),
        (
            r#"{"downloads": [{"duration": 1e-300, "amount": 18446744073709551615}]}"#,
            true,
        ),
        (
            r#"{"observed": 18446744073709551615, "average": 0, "burst": 0}"#,
            true,
        ),
        (r#"{"rtts": [1e308, -1e308, 0.0]}"#, true),
    ] {
        for version in Version::ALL {
            for option in ["", "raw", "sbwsscale", "a1d", "p2d", "resetip"] {
                let mut generator = Generator::new(options(version, "edge", option));
                let file = &Home::new(&home).files().unwrap()[4];
                let mut added = 0;
                file.for_each_result(|_, result| {
                    let Ok(result) = result else { return };
                    let mut facts = serde_json::to_value(&result.facts).unwrap();
                    let changes: serde_json::Value = serde_json::from_str(hostile).unwrap();
                    for (key, value) in changes.as_object().unwrap() {
                        facts[key] = value.clone();
                    }
                    added += 1;
                    generator.add(result.fingerprint, serde_json::from_value(facts).unwrap());
                })
                .unwrap();
                assert!(added > 0);
                let made = generator.finish(&Header::default(), None);
                let text = made.map(|bytes| String::from_utf8(bytes).unwrap());
                if let Ok(text) = text {
                    assert!(kept, "{hostile}");
                    let (_, lines) = parts(&text);
                    assert!(lines.len() <= added, "{hostile}: {text}");
                    for line in lines {
                        assert_eq!(line.matches("bw=").count(), 1, "{hostile}: {line}");
                    }
                } else {
                    // Nothing is left, or sbws could not go on either.
                    assert!(
                        !kept
                            || option == "sbwsscale"
                            || option == "p2d"
                            || hostile.contains("downloads"),
                        "{hostile} {option}"
                    );
                }
            }
        }
    }
}

#[test]
fn where_sbws_crashes_there_is_an_error() {
    let home = home("edge").unwrap();
    let error = from_home(&home, options(Version::V1_5_2, "edge", "sbwsscale")).unwrap_err();
    assert!(matches!(error, GenerateError::NoAverage(_)), "{error}");
    let mut late = options(Version::V1_5_2, "edge", "");
    late.now += 90.0 * 86_400.0;
    let error = from_home(&home, late).unwrap_err();
    assert_eq!(error, GenerateError::NoResults { days: 28 });
}
