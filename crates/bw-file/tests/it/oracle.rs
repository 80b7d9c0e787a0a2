//! The verdicts of a real tor 0.4.9.11, case by case.
//!
//! `data/tor-0.4.9.11/expected.json` has what an authority's vote said of each
//! file of `cases/`; `lines.json` says which single lines it took.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use bw_file::{FileDigest, Fingerprint, TorJudge, TorWarningKind, UnixTime};
use serde_json::Value;

fn data() -> PathBuf {
    PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/data/tor-0.4.9.11"
    ))
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn latin1(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

fn from_latin1(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(c).unwrap()).collect()
}

/// The beginnings of messages, as a set: the recording has each kind once.
fn kinds<'a>(messages: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
    messages
        .map(|message| {
            message
                .split([':', '.', '('])
                .find(|part| !part.is_empty())
                .unwrap()
                .trim()
                .to_owned()
        })
        .collect()
}

#[test]
fn whole_files() {
    let expected = json(&data().join("expected.json"));
    let relay1: Fingerprint = expected["relay1_fingerprint"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let cases = expected["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 32);
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let now = UnixTime::new(case["now"].as_i64().unwrap());
        let judge = TorJudge::new(now).known_relays([relay1]);
        let file = case["file"]
            .as_str()
            .map(|path| std::fs::read(data().join(path)).unwrap());
        let verdict = match &file {
            Some(file) => judge.judge(file),
            None => judge.judge_missing(),
        };

        let produced = case["vote_produced"].as_bool().unwrap();
        assert_eq!(verdict.casts_vote(), produced, "{name}");
        assert_eq!(
            kinds(verdict.warnings().iter().map(|w| w.kind.tor_says())),
            kinds(
                case["warnings"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|w| w.as_str().unwrap())
            ),
            "{name}"
        );
        if !produced {
            continue;
        }
        assert_eq!(
            latin1(&verdict.headers_line()),
            case["vote_headers_line"].as_str().unwrap(),
            "{name}"
        );
        assert_eq!(
            verdict.measured().get(&relay1).map(|bw| bw.value()),
            case["relay1_measured"].as_u64(),
            "{name}"
        );
        if let Some(file) = &file {
            assert_eq!(
                verdict.digest() == FileDigest::of(file),
                case["digest_is_sha256_of_file"].as_bool().unwrap(),
                "{name}"
            );
        }
    }
}

#[test]
fn single_lines() {
    let recorded = json(&data().join("lines.json"));
    let lines = recorded["lines"].as_array().unwrap();
    assert_eq!(lines.len(), 56);
    let judge = TorJudge::new(UnixTime::new(1_700_000_000));
    for line in lines {
        let what = line["what"].as_str().unwrap();
        let text = line["line_latin1"].as_str().unwrap();
        let text = match text.strip_suffix(" ...(nick padded to 200000 bytes)") {
            Some(start) => format!("{start}{}", "x".repeat(200_000)),
            None => text.to_owned(),
        };
        let mut file = b"1700000000\n=====\n".to_vec();
        file.extend(from_latin1(&text));
        if line["final_newline"].as_bool().unwrap() {
            file.push(b'\n');
        }
        let used = judge.judge(&file).used().len();
        let accepted = line["tor"].as_str().unwrap() == "accept";
        assert_eq!(used, usize::from(accepted), "{what}");
    }
}

/// The lines of tor's own unit test.
#[test]
fn lines_of_tors_unit_test() {
    let Some(folder) = super::shared::folder() else {
        return;
    };
    let lines = json(&folder.join("third-party/tor-test_dir-lines.json"));
    let judge = TorJudge::new(UnixTime::new(1_700_000_000));
    for (verdict, lines) in lines.as_object().unwrap() {
        for line in lines.as_array().unwrap() {
            let line = line.as_str().unwrap();
            let used = |version: &str| {
                let judge = judge.clone().version(version.parse().unwrap());
                let file = format!("1700000000\n=====\n{line}");
                let verdict = judge.judge(file.as_bytes());
                verdict
                    .used()
                    .iter()
                    .map(|used| used.bw.value())
                    .collect::<Vec<_>>()
            };
            // The test is of 0.4.8.1-alpha, which wants a `$`.
            let expected: &[u64] = if verdict.starts_with("pass") {
                &[1024]
            } else {
                &[]
            };
            assert_eq!(used("0.4.8.1-alpha"), expected, "{line:?}");
            if !line.contains("node_id=5573") {
                assert_eq!(used("0.4.9.11"), expected, "{line:?}");
            }
        }
    }
}

/// Column "tor" of the sample files' index: lines used, skipped for `vote=0`,
/// and warnings of one reading; entries and bytes of the vote's header.
#[test]
fn sample_files() {
    let Some(folder) = super::shared::folder() else {
        return;
    };
    let index = std::fs::read_to_string(folder.join("INDEX.md")).unwrap();
    let mut checked = 0;
    for row in index.lines().filter(|row| row.starts_with("| `")) {
        let columns: Vec<&str> = row.split(" | ").collect();
        let name = columns[0].trim_matches(['|', ' ', '`']);
        let [verdict, header] = columns[columns.len() - 2..] else {
            panic!("{row}");
        };
        let Some((lines, skipped, warnings)) = three_numbers(verdict) else {
            continue;
        };
        let (entries, bytes) = header
            .trim_end_matches([' ', '|'])
            .split_once(", ")
            .unwrap();
        let path = [
            folder.join("third-party").join(name),
            folder.join("original").join(name),
        ]
        .into_iter()
        .find(|path| path.exists())
        .unwrap();
        let mut file = std::fs::read(path).unwrap();
        if file.starts_with(b"@") {
            file = file.splitn(2, |&b| b == b'\n').nth(1).unwrap().to_vec();
        }
        // The recording was made with the time of the recording, in digits as
        // many as today's times have.
        let rest = file.iter().position(|&b| b == b'\n').unwrap();
        file.splice(..rest, *b"1700000000");
        let verdict = TorJudge::new(UnixTime::new(1_700_000_000)).judge(&file);
        assert_eq!(
            (
                verdict.used().len(),
                verdict.skipped(),
                verdict.warnings().len()
            ),
            (lines, u64::try_from(skipped).unwrap(), warnings),
            "{name}"
        );
        assert_eq!(
            verdict.header_budget(),
            (
                entries.parse().unwrap(),
                bytes.trim_end_matches(" B").parse().unwrap()
            ),
            "{name}"
        );
        checked += 1;
    }
    assert!(checked >= 40, "only {checked} rows understood");
}

fn three_numbers(text: &str) -> Option<(usize, usize, usize)> {
    let mut numbers = text.split('/').map(|number| number.trim().parse().ok());
    Some((numbers.next()??, numbers.next()??, numbers.next()??))
}

#[test]
fn every_warning_is_told_apart_by_its_message() {
    let messages: BTreeSet<_> = TorWarningKind::ALL
        .iter()
        .map(|kind| kind.tor_says())
        .collect();
    assert_eq!(messages.len(), TorWarningKind::ALL.len());
}
