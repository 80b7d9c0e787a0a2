//! `bwscan file …` on small files and standard input: exit codes, text,
//! colours, JSON.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod command;

use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

const A: &str = "ABABABABABABABABABABABABABABABABABABABAB";
const B: &str = "0123456789012345678901234567890123456789";
const NOW: &str = "1700003600";

/// A file that nothing is wrong with.
fn good() -> String {
    format!(
        "1700000000\nversion=1.9.0\nsoftware=bwscan\n=====\n\
         bw=760 nick=First node_id=${A}\n\
         bw=1 nick=Second node_id=${B} unmeasured=1 vote=0\n"
    )
}

/// A file with an error, a warning and a note.
fn bad() -> String {
    format!(
        "1700000000\nversion=1.9.0\n=====\n\
         bw=fast nick=First node_id=${A}\n\
         bw=7  node_id=${B} unheard_of=1\n"
    )
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path: PathBuf = self.0.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.into_os_string().into_string().unwrap()
    }
}

fn bwscan_file(arguments: &[&str]) -> Command {
    let mut command = command::bwscan();
    command.env_remove("NO_COLOR").arg("file").args(arguments);
    command
}

fn said(output: Output) -> (i32, String, String) {
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

/// Exit code, standard output and standard error.
fn run(arguments: &[&str]) -> (i32, String, String) {
    said(bwscan_file(arguments).output().unwrap())
}

/// The same with something on standard input.
fn run_with(arguments: &[&str], input: &[u8]) -> (i32, String, String) {
    let mut child = bwscan_file(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    said(child.wait_with_output().unwrap())
}

fn json_lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn check_of_a_good_file() {
    let folder = Folder::new();
    let path = folder.file("good", good());
    let (code, text, errors) = run(&["check", &path, "--now", NOW]);
    assert_eq!((code, errors.as_str()), (0, ""), "{text}");
    for judgement in ["spec", "tor", "lint"] {
        let line = format!("{path}: {judgement}: 0 errors, 0 warnings, 0 notes\n");
        assert!(text.contains(&line), "{text}");
    }
    let last = format!("{path}: tor uses 1 lines, skips 1 for vote=0\n");
    assert!(text.ends_with(&last), "{text}");
    // The same on standard input.
    let (code, piped, _) = run_with(&["check", "-", "--now", NOW], good().as_bytes());
    assert_eq!((code, piped), (0, text.replace(&path, "-")));
}

#[test]
fn check_of_a_bad_file() {
    let folder = Folder::new();
    let (good, bad) = (folder.file("good", good()), folder.file("bad", bad()));
    let (code, text, errors) = run(&["check", &bad, "--now", NOW]);
    assert_eq!((code, errors.as_str()), (1, ""), "{text}");
    assert!(
        text.contains("\n4:4: error[invalid-bandwidth]: ")
            && text.contains(&format!(
                "\n    bw=fast nick=First node_id=${A}\n       ^^^^\n"
            ))
            && text.contains(": warning[white-space]: "),
        "{text}"
    );
    assert!(!text.contains(": note["), "{text}");
    let (code, notes, _) = run(&["check", &bad, "--now", NOW, "--notes"]);
    assert_eq!(code, 1);
    assert!(notes.contains("5:57: note[unknown-key]: "), "{notes}");
    // One bad file among good ones is enough.
    assert_eq!(run(&["check", &good, &bad, "--now", NOW]).0, 1);
    assert_eq!(run(&["check", &good, &good, "--now", NOW]).0, 0);
}

#[test]
fn check_of_an_empty_file_says_so() {
    let folder = Folder::new();
    let empty = folder.file("empty", "");
    for (path, input) in [(empty.as_str(), ""), ("-", "")] {
        let (code, text, _) = run_with(&["check", path], input.as_bytes());
        assert_eq!(code, 1, "{text}");
        assert!(text.contains("error[missing-timestamp]"), "{text}");
        assert!(text.contains("error[tor-refuses-file]"), "{text}");
    }
}

#[test]
fn check_takes_the_time_and_the_versions_to_judge_by() {
    let folder = Folder::new();
    let path = folder.file("good", good());
    let later = ["check", &path, "--now", "1800000000"];
    let (code, text, _) = run(&later);
    assert_eq!(code, 1);
    assert!(text.contains("error[tor-refuses-file]"), "{text}");
    let bare = folder.file("bare", good().replace('$', ""));
    assert_eq!(run(&["check", &bare, "--now", NOW]).0, 0);
    let old = ["check", &bare, "--now", NOW, "--spec-version", "1.4.0"];
    let (code, text, _) = run(&old);
    assert_eq!(code, 1);
    assert!(text.contains("error[dollar-missing]"), "{text}");
    let (_, text, _) = run(&["check", &bare, "--now", NOW, "--tor-version", "0.4.7.1"]);
    assert!(text.contains("tor uses 0 lines"), "{text}");
}

#[test]
fn colours_are_all_that_they_change() {
    let folder = Folder::new();
    let bad = folder.file("bad", bad());
    let arguments = ["check", &bad, "--now", NOW, "--notes"];
    let (_, plain, _) = run(&arguments);
    assert!(!plain.contains('\x1b'));
    assert_eq!(
        run(&[&arguments[..], &["--color", "never"]].concat()).1,
        plain
    );
    let (code, coloured, _) = run(&[&arguments[..], &["--color", "always"]].concat());
    assert_eq!(code, 1);
    for (start, severity) in [("31", "error"), ("33", "warning"), ("36", "note")] {
        let painted = coloured.lines().any(|line| {
            line.starts_with(&format!("\x1b[{start}m"))
                && line.contains(&format!(": {severity}["))
                && line.ends_with("\x1b[0m")
        });
        assert!(painted, "{severity}: {coloured}");
    }
    let mut bare = coloured;
    for code in ["\x1b[31m", "\x1b[33m", "\x1b[36m", "\x1b[0m"] {
        bare = bare.replace(code, "");
    }
    assert_eq!(bare, plain);
}

#[test]
fn check_as_json() {
    let folder = Folder::new();
    let (good, bad) = (folder.file("good", good()), folder.file("bad", bad()));
    let (code, text, _) = run(&["check", &good, &bad, "--now", NOW, "--json"]);
    assert_eq!(code, 1);
    let files = json_lines(&text);
    assert_eq!(files.len(), 2);
    assert_eq!(files[0]["file"], good.as_str());
    let judgement = &files[0]["judgement"];
    assert_eq!(judgement["casts_vote"], true);
    assert_eq!(judgement["used"][0]["bw"], 760);
    assert_eq!(judgement["measured"][A], 760);
    assert_eq!(judgement["warnings"], Value::Array(Vec::new()));
    assert_eq!(
        judgement["headers_line"],
        "bandwidth-file-headers timestamp=1700000000 version=1.9.0 software=bwscan"
    );
    assert_eq!(files[0]["spec"]["errors"], 0);
    assert_eq!(files[1]["spec"]["errors"], 1);
    let found = &files[1]["spec"]["diagnostics"][0];
    assert_eq!(found["code"], "invalid-bandwidth");
    assert_eq!(found["severity"], "error");
    assert_eq!(found["position"]["line"], 4);
}

#[test]
fn show() {
    let folder = Folder::new();
    let path = folder.file("good", good());
    let (code, text, _) = run(&["show", &path]);
    assert_eq!(code, 0);
    assert!(text.contains("software = bwscan\n"), "{text}");
    let rows: Vec<Vec<&str>> = text
        .lines()
        .filter(|line| line.starts_with(A) || line.starts_with(B))
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(rows, [[A, "760", "yes", "First"], [B, "1", "no", "Second"]]);
    assert_eq!(run_with(&["show", "-"], good().as_bytes()).1, text);

    let (code, text, _) = run(&["show", &path, B]);
    assert_eq!(code, 0);
    assert!(
        text.contains("nick = Second\n") && !text.contains("First"),
        "{text}"
    );
    let key = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let keyed = good().replace(
        "nick=First",
        &format!("nick=First master_key_ed25519={key}"),
    );
    let (code, text, _) = run_with(&["show", "-", key], keyed.as_bytes());
    assert_eq!(code, 0);
    assert!(text.contains("nick = First\n"), "{text}");
    let unknown = "F".repeat(40);
    assert_eq!(
        run(&["show", &path, &unknown]),
        (1, String::new(), String::new())
    );

    let (code, text, _) = run(&["show", &path, "--json"]);
    assert_eq!(code, 0);
    let lines = json_lines(&text);
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[0]["timestamp"], 1_700_000_000);
    assert_eq!(lines[0]["header"]["software"], "bwscan");
    assert_eq!(lines[2]["nick"], "Second");
    let (_, text, _) = run(&["show", &path, A, "--json"]);
    assert_eq!(json_lines(&text)[0]["bw"], 760);
}

#[test]
fn what_a_file_says_cannot_move_the_cursor() {
    let folder = Folder::new();
    let file = format!("1700000000\nsoftware=\x1b[2J\n=====\nbw=5 node_id=${A} nick=\x1b[2Jx\n");
    let path = folder.file("good", good());
    for arguments in [
        &["check", "-", "--notes"][..],
        &["show", "-"],
        &["show", "-", A],
        &["diff", &path, "-"],
        &["digest", "-", "--now", NOW],
    ] {
        let (_, text, _) = run_with(arguments, file.as_bytes());
        assert!(text.contains(r"\u{1b}[2J"), "{arguments:?}: {text:?}");
        assert!(!text.contains('\x1b'), "{arguments:?}: {text:?}");
    }
}

#[test]
fn diff() {
    let folder = Folder::new();
    let before = folder.file("before", good());
    let after = folder.file(
        "after",
        good()
            .replace("bw=760", "bw=800")
            .replace("1700000000", "1700003600"),
    );
    let (code, text, _) = run(&["diff", &before, &before]);
    assert_eq!(code, 0);
    assert_eq!(text.lines().count(), 1, "{text}");
    let (code, text, _) = run(&["diff", &before, &after]);
    assert_eq!(code, 1);
    assert!(
        text.contains("header timestamp: 1700000000 -> 1700003600\n"),
        "{text}"
    );
    assert!(
        text.lines()
            .any(|line| line.starts_with(&format!("~ {A} First 760"))),
        "{text}"
    );
    assert_eq!(run_with(&["diff", "-", &after], good().as_bytes()).1, text);
    assert!(text.contains("760 kB/s -> 800 kB/s (x1.05)\n"), "{text}");
    let (_, coloured, _) = run(&["diff", &before, &after, "--color", "always"]);
    assert!(
        coloured.contains(&format!("\x1b[33m~ {A} First 760")),
        "{coloured}"
    );
    let bare = coloured.replace("\x1b[33m", "").replace("\x1b[0m", "");
    assert_eq!(bare, text);

    // Other keys on request; another fingerprint with the same Ed25519 key.
    let renamed = folder.file("renamed", good().replace("Second", "Third"));
    assert_eq!(run(&["diff", &before, &renamed]).0, 0);
    let (code, text, _) = run(&["diff", &before, &renamed, "--keys"]);
    assert_eq!(code, 1);
    assert!(text.contains("    nick: Second -> Third\n"), "{text}");
    let key = "master_key_ed25519=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let keyed = |id: &str| folder.file(id, good().replace("nick=First", key).replace(A, id));
    let (code, text, _) = run(&["diff", &keyed(A), &keyed(&"C".repeat(40))]);
    assert_eq!(code, 1);
    assert!(text.contains(&format!("(was {A}) 760")), "{text}");

    let fewer = folder.file(
        "fewer",
        good().lines().take(5).collect::<Vec<_>>().join("\n"),
    );
    let (code, text, _) = run(&["diff", &before, &fewer]);
    assert_eq!(code, 1);
    assert!(
        text.lines()
            .any(|line| line.starts_with(&format!("- {B} "))),
        "{text}"
    );
    let (code, text, _) = run(&["diff", &fewer, &before, "--json"]);
    assert_eq!(code, 1);
    let json = &json_lines(&text)[0];
    assert_eq!(json["diff"]["gained"][0]["relay"], B);
    assert_eq!(json["network"]["common"], 1);
    assert_eq!(run(&["diff", &before, &before, "--json"]).0, 0);
}

#[test]
fn digest() {
    let folder = Folder::new();
    let path = folder.file("good", good());
    let (code, text, _) = run(&["digest", &path, "--now", NOW]);
    assert_eq!(code, 0);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines[0],
        "bandwidth-file-headers timestamp=1700000000 version=1.9.0 software=bwscan"
    );
    assert!(
        lines[1].starts_with("bandwidth-file-digest sha256="),
        "{text}"
    );
    assert_eq!(lines.len(), 2);
    let (_, piped, _) = run_with(&["digest", "-", "--now", NOW], good().as_bytes());
    assert_eq!(piped, text);

    // What the command says is what a vote says.
    let vote = folder.file("vote", &text);
    let arguments = ["digest", &path, "--now", NOW, "--vote", &vote];
    assert_eq!(run(&arguments), (0, text.clone(), String::new()));
    let other = folder.file("other", text.replace("bwscan", "sbws"));
    let arguments = ["digest", &path, "--now", NOW, "--vote", &other];
    let (code, said, _) = run(&arguments);
    assert_eq!(code, 1);
    assert!(said.ends_with("bandwidth-file-headers differs\n"), "{said}");
    let (code, said, _) = run(&[&arguments[..], &["--json"]].concat());
    assert_eq!(code, 1);
    let json = &json_lines(&said)[0];
    assert_eq!(json["headers"], lines[0]);
    assert_eq!(json["mismatches"].as_array().unwrap().len(), 1);
}

#[test]
fn a_timestamp_among_the_relays_is_a_fault() {
    let file = format!("1700000000\n=====\nbw=5 node_id=${A}\n1700000000\nbw=6 node_id=${B}\n");
    let arguments = ["check", "-", "--now", NOW, "--json"];
    let (_, text, _) = run_with(&arguments, file.as_bytes());
    let files = json_lines(&text);
    assert_eq!(files.len(), 1);
    assert_eq!(files[0]["judgement"]["used"].as_array().unwrap().len(), 2);
    assert_eq!(files[0]["judgement"]["warnings"][0]["line"], 4);
    // Files after one another are counted one by one.
    let (_, text, _) = run_with(&["stats", "-", "--json"], good().repeat(2).as_bytes());
    assert_eq!(json_lines(&text).len(), 2);
}

/// An archive as CollecTor has it, and one member that is something else.
fn archive(folder: &Folder) -> String {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, text) in [
        ("a", format!("@type bandwidth-file 1.0\n{}", good())),
        (
            "b",
            format!("@type bandwidth-file 1.0\n{}", good())
                .replace("1700000000", "1700003600")
                .replace("bw=760", "bw=1520"),
        ),
        ("notes.txt", "NOTICE: measured 60 %\n".to_owned()),
    ] {
        let mut header = tar::Header::new_ustar();
        header.set_size(text.len().try_into().unwrap());
        header.set_mode(0o644);
        tar.append_data(&mut header, name, text.as_bytes()).unwrap();
    }
    folder.file("archive.tar", tar.into_inner().unwrap())
}

#[test]
fn a_nickname_none_is_a_name_like_any_other() {
    let file = good().replace("First", "None");
    let (code, text, _) = run_with(&["check", "-", "--now", NOW], file.as_bytes());
    assert_eq!(code, 0, "{text}");
    assert!(!text.contains("warning["), "{text}");
    let (_, text, _) = run_with(&["show", "-", "none", "--json"], file.as_bytes());
    assert_eq!(json_lines(&text)[0]["nick"], "None");
}

#[test]
fn the_verdict_for_a_file_with_annotations_is_tors() {
    let folder = Folder::new();
    let file = format!("@type bandwidth-file 1.0\n{}", good());
    let path = folder.file("collector", &file);
    let (code, text, _) = run(&["check", &path, "--now", NOW]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("error[tor-refuses-file]"), "{text}");
    assert!(text.contains("--archived"), "{text}");
    let (code, text, _) = run(&["check", &path, "--archived"]);
    assert_eq!(code, 0, "at its own time: {text}");
    let digest = |arguments: &[&str]| run(&[&["digest", "--now", NOW], arguments].concat()).1;
    assert_ne!(digest(&[&path]), digest(&[&path, "--archived"]));
}

#[test]
fn archived_files_are_judged_at_their_own_time() {
    let folder = Folder::new();
    let path = archive(&folder);
    let (code, text, errors) = run(&["check", &path]);
    assert_eq!(code, 2);
    assert!(
        errors.contains("notes.txt is no bandwidth file"),
        "{errors}"
    );
    assert!(!text.contains("notes.txt"), "{text}");
    for member in ["a", "b"] {
        let line = format!("{path}:{member}: tor: 0 errors, 0 warnings, 0 notes\n");
        assert!(text.contains(&line), "{text}");
    }
    let (_, text, _) = run(&["check", &path, "--now", "2026-11-20T12:30:00"]);
    assert!(text.contains("tor-refuses-file"), "{text}");
}

#[test]
fn archives_are_looked_at_file_by_file() {
    let folder = Folder::new();
    let path = archive(&folder);
    let (a, b) = (format!("{path}:a"), format!("{path}:b"));
    // What is no bandwidth file is told and keeps nothing from being read.
    let told = |errors: &str| {
        assert!(
            errors.contains(&format!("{path}:notes.txt is no bandwidth file")),
            "{errors}"
        );
    };

    let (code, text, errors) = run(&["digest", &path, "--json"]);
    assert_eq!(code, 2);
    told(&errors);
    let rows = json_lines(&text);
    assert_eq!(rows.len(), 2);
    assert_eq!(
        (&rows[0]["file"], &rows[1]["file"]),
        (&Value::from(a.as_str()), &Value::from(b.as_str()))
    );
    assert_eq!(rows[1]["timestamp"], 1_700_003_600);
    let plain = folder.file("plain", good());
    let (_, alone, _) = run(&["digest", &plain, "--now", NOW, "--json"]);
    assert_eq!(rows[0]["digest"], json_lines(&alone)[0]["digest"]);
    let (_, text, _) = run(&["digest", &path]);
    assert!(
        text.lines()
            .nth(1)
            .unwrap()
            .ends_with(&format!("1700000000  {a}")),
        "{text}"
    );

    let (code, text, errors) = run(&["convert", &path, "--to", "csv"]);
    assert_eq!(code, 2);
    told(&errors);
    let rows: Vec<&str> = text.lines().collect();
    assert_eq!(rows.len(), 5);
    assert!(rows[0].starts_with("file,timestamp,bw,"), "{text}");
    assert!(
        rows[3].starts_with(&format!("{b},1700003600,1520,")),
        "{text}"
    );
    let (_, text, _) = run(&["convert", &path, "--to", "jsonl"]);
    let rows = json_lines(&text);
    assert_eq!(
        (&rows[3]["file"], &rows[3]["nick"]),
        (&Value::from(b.as_str()), &"Second".into())
    );

    let (code, text, errors) = run(&["show", &path, "First"]);
    assert_eq!(code, 2);
    told(&errors);
    assert!(
        text.contains(&format!("{a} (1700000000)\nFirst has 760 kB/s")),
        "{text}"
    );
    let (_, text, _) = run(&["show", &path, "--json"]);
    assert_eq!(json_lines(&text)[3]["file"], b.as_str());

    let (code, _, errors) = run(&["diff", &path, &plain]);
    assert_eq!(code, 2);
    assert!(errors.contains("several files"), "{errors}");
}

#[test]
fn what_is_no_bandwidth_file_is_an_error_of_its_own() {
    let folder = Folder::new();
    let good_path = folder.file("good", good());
    let elf = folder.file("elf", b"\x7fELF\x02\x01\x01\0garbage\n\n\xff\xfe");
    let empty_tar = folder.file("empty.tar", [0; 10_240]);
    let missing = folder.0.path().join("missing").to_str().unwrap().to_owned();
    for path in [&elf, &empty_tar, "/dev/null", &missing] {
        let (code, text, errors) = run(&["stats", path]);
        assert_eq!((code, text.as_str()), (2, ""), "{path}");
        assert!(
            errors.contains(path) && errors.lines().count() == 1,
            "{errors}"
        );
        // The others are read.
        let (code, text, errors) = run(&["stats", path, &good_path]);
        assert_eq!((code, text.lines().count()), (2, 1), "{path}: {text}");
        assert!(errors.contains(path), "{errors}");
    }
    let (code, text, _) = run(&["check", &missing, &good_path, "--now", NOW]);
    assert_eq!(code, 2);
    assert!(text.contains("tor uses 1 lines"), "{text}");
}

#[test]
fn stats_count_relays_once() {
    let file = format!("{}bw=5 node_id=${A}\n", good());
    let (_, text, _) = run_with(&["stats", "-"], file.as_bytes());
    assert!(
        text.starts_with("-: 2 relays on 3 lines, 1 voted, total 5 kB/s"),
        "{text}"
    );
}

#[test]
fn times_have_the_same_forms_everywhere() {
    let folder = Folder::new();
    let path = folder.file("good", good());
    for command in ["check", "digest"] {
        let said = ["1700003600", "2023-11-14T23:13:20", "2023-11-14T23:13:20Z"]
            .map(|now| run(&[command, &path, "--now", now]));
        assert_eq!(said[0].0, 0);
        assert!(said.iter().all(|other| *other == said[0]), "{said:?}");
    }
    let (code, text, _) = run(&[
        "check",
        &path,
        "--now",
        NOW,
        "--previous",
        "2023-11-14T22:13:20",
    ]);
    assert_eq!(code, 0);
    assert!(text.contains("warning[not-newer]"), "{text}");
}

#[test]
fn a_tor_that_is_not_modelled_is_an_error() {
    let folder = Folder::new();
    let path = folder.file("good", good());
    let (code, _, errors) = run(&["check", &path, "--tor-version", "0.3.4.11"]);
    assert_eq!(code, 2);
    assert!(errors.contains("0.3.5.1"), "{errors}");
    assert_eq!(
        run(&[
            "check",
            &path,
            "--now",
            NOW,
            "--tor-version",
            "0.3.5.1-alpha"
        ])
        .0,
        0
    );
}

#[test]
fn bytes_outside_utf_8_survive_in_json() {
    let file = [
        good().as_bytes(),
        b"bw=3 node_id=$",
        &[b'C'; 40],
        b" odd=\xff\\ nick=\xfe\n",
    ]
    .concat();
    let (_, text, _) = run_with(&["convert", "-", "--to", "jsonl"], &file);
    let relay = &json_lines(&text)[2];
    assert_eq!(relay["nick"]["invalid"], r"\xfe");
    assert_eq!(relay["other"][0]["value"], r"\xff\\");
}

#[test]
fn show_begins_with_a_verdict() {
    let folder = Folder::new();
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let fresh = good().replace("1700000000", &(now.as_secs() - 30).to_string());
    let path = folder.file("fresh", fresh);
    let (_, text, _) = run(&["show", &path]);
    let sentence =
        "tor takes it: 1 of 2 relays have a vote, 760 kB/s in all; measured by bwscan, 3";
    assert!(text.starts_with(sentence), "{text}");
    let (_, text, _) = run(&["show", &path, "First"]);
    assert!(
        text.starts_with("First has 760 kB/s: place 1 of 1, 100.000 % of all.\n"),
        "{text}"
    );
    let (_, text, _) = run(&["show", &path, "01234567"]);
    assert!(
        text.starts_with("Second has no vote: it was not measured.\n"),
        "{text}"
    );
    let (_, text, _) = run(&["show", &path, "01234567", "--json"]);
    assert_eq!(
        json_lines(&text)[0]["verdict"],
        "Second has no vote: it was not measured."
    );
    let old = folder.file("old", good());
    assert!(
        run(&["show", &old])
            .1
            .starts_with("tor refuses it (Bandwidth measurement file stale)")
    );
}

#[test]
fn relays_have_many_names() {
    let folder = Folder::new();
    let key = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let keyed = good().replace(
        "nick=First",
        &format!("nick=First master_key_ed25519={key}"),
    );
    let path = folder.file("good", keyed);
    for name in [A, "ABABABAB", "$abababab", "first", "First", key] {
        let (code, text, _) = run(&["show", &path, name]);
        assert_eq!(code, 0, "{name}");
        assert!(text.contains("nick = First\n"), "{name}: {text}");
    }
    assert_eq!(run(&["show", &path, "Third"]).0, 1);
    let (code, _, errors) = run(&["show", &path, "192.0.2.1"]);
    assert_eq!(code, 2);
    assert!(errors.contains("--consensus"), "{errors}");
    let twice = folder.file("twice", good().replace("Second", "First"));
    let (code, _, errors) = run(&["show", &twice, "First"]);
    assert_eq!(code, 2);
    assert!(errors.contains(A) && errors.contains(B), "{errors}");
}

#[test]
fn diff_of_the_largest_changes() {
    let folder = Folder::new();
    let file = |weights: [u64; 4]| {
        let mut text = "1700000000\n=====\n".to_owned();
        for (index, bw) in weights.into_iter().enumerate() {
            if bw > 0 {
                text += &format!(
                    "bw={bw} nick=r{index} node_id=${}\n",
                    index.to_string().repeat(40)
                );
            }
        }
        text
    };
    let before = folder.file("before", file([100, 100, 100, 0]));
    let after = folder.file("after", file([110, 50, 500, 7]));
    let shown = |arguments: &[&str]| {
        let (code, text, _) = run(&[&["diff", &before, &after], arguments].concat());
        assert_eq!(code, 1);
        text
    };
    let text = shown(&["--top", "1"]);
    assert!(
        text.contains(&format!(
            "~ {} r2 100 kB/s -> 500 kB/s (x5.00)\n",
            "2".repeat(40)
        )),
        "{text}"
    );
    assert!(!text.contains(" r1 ") && text.contains(" r3 "), "{text}");
    assert!(
        text.contains("2 relays that differ are not shown\n"),
        "{text}"
    );
    let text = shown(&["--min-factor", "2"]);
    assert!(
        text.contains(" r1 ") && text.contains(" r2 ") && !text.contains(" r0 "),
        "{text}"
    );
    assert_eq!(run(&["diff", &before, &after, "--min-factor", "0.5"]).0, 2);
}

#[test]
fn history_of_a_relay() {
    let folder = Folder::new();
    let archive = archive(&folder);
    let without = folder.file(
        "without",
        "1700001800\n=====\nbw=3 node_id=$CCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCC\n",
    );
    let (code, text, errors) = run(&["history", "First", &archive, &without]);
    assert_eq!(code, 2, "notes.txt: {errors}");
    let first = format!(
        "{A} First is in 2 of 3 files, with a vote in 2: from 760 to 1520 kB/s, median 760."
    );
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], first);
    // In order of time, not of arguments.
    assert!(lines[4].contains("not there"), "{text}");
    assert!(
        lines[5].starts_with("2023-11-14T23:13:20") && lines[5].contains("x2.00"),
        "{text}"
    );
    assert!(lines[5].contains("1 of 1"), "{text}");
    let (code, text, _) = run(&["history", "First", &without, "--json"]);
    assert_eq!(code, 1);
    assert_eq!(json_lines(&text)[0]["standing"], Value::Null);
    assert_eq!(run(&["history", "First"]).0, 2);
}

#[test]
fn compare_of_several_files() {
    let folder = Folder::new();
    let file = |name: &str, a: u64, b: u64| {
        folder.file(
            name,
            format!("1700000000\n=====\nbw={a} nick=First node_id=${A}\nbw={b} node_id=${B}\n"),
        )
    };
    let files = [file("x", 100, 50), file("y", 110, 60), file("z", 1100, 55)];
    let [x, y, z] = &files;
    let (code, text, _) = run(&["compare", x, y, z]);
    assert_eq!(code, 1);
    let row = text.lines().find(|line| line.starts_with(A)).unwrap();
    let words: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(
        words,
        [A, "First", "100", "110", "1100", "110", "C", "x10.0"]
    );
    assert!(!text.contains(B), "{text}");
    assert!(
        text.contains("C    2 relays, 0 missing, total 1155 kB/s, 1 outliers high, 0 low: "),
        "{text}"
    );
    let (code, text, _) = run(&["compare", x, y, z, "--all", "--min-factor", "20"]);
    assert_eq!(code, 0);
    assert!(text.contains(B), "{text}");
    let (_, text, _) = run(&["compare", x, y, z, "--json"]);
    let rows = json_lines(&text);
    assert_eq!(rows.len(), 4);
    assert_eq!(rows[3]["outliers"][0]["column"], "C");
    assert_eq!(rows[3]["median"], 110);
    assert_eq!(run(&["compare", x]).0, 2);
}

#[test]
fn exit_codes_are_documented() {
    let (code, text, _) = run(&["--help"]);
    assert_eq!(code, 0);
    assert!(text.contains("Exit codes:\n  0  all is well"), "{text}");
}

#[test]
fn convert() {
    let folder = Folder::new();
    let path = folder.file("good", good());
    let (code, csv, _) = run(&["convert", &path, "--to", "csv"]);
    assert_eq!(code, 0);
    assert_eq!(
        csv,
        format!("bw,nick,node_id,unmeasured,vote\n760,First,${A},,\n1,Second,${B},1,0\n")
    );
    let (code, text, _) = run(&["convert", &path, "--to", "jsonl"]);
    assert_eq!(code, 0);
    let relays = json_lines(&text);
    assert_eq!(relays.len(), 2);
    assert_eq!(relays[0]["nick"], "First");
    let input = good();
    assert_eq!(
        run_with(&["convert", "-", "--to", "csv"], input.as_bytes()).1,
        csv
    );
    assert_eq!(run(&["convert", &path]).0, 2);
    assert_eq!(run(&["convert", &path, "--to", "xml"]).0, 2);
}

#[test]
fn stats() {
    let folder = Folder::new();
    let path = folder.file("good", good());
    let (code, text, _) = run(&["stats", &path, &path]);
    assert_eq!(code, 0);
    assert_eq!(text.lines().count(), 2);
    assert!(
        text.starts_with(&format!("{path}: 2 relays, 1 voted, total 760")),
        "{text}"
    );
    // Several files in one stream are told apart.
    let annotated = format!("@type bandwidth-file 1.0\n{}", good());
    let (code, text, _) = run_with(&["stats", "-", "--json"], annotated.repeat(3).as_bytes());
    assert_eq!(code, 0);
    let files = json_lines(&text);
    assert_eq!(files.len(), 3);
    for file in files {
        assert_eq!(file["relays"], 2);
        assert_eq!(file["unmeasured"], 1);
        assert_eq!(file["total"], 760);
        assert_eq!(file["largest"], 760);
        assert_eq!(file["software"], "bwscan");
        assert_eq!(file["version"], "1.9.0");
    }
}

#[test]
fn what_cannot_be_read() {
    let folder = Folder::new();
    let missing = folder.0.path().join("missing");
    let missing = missing.to_str().unwrap();
    let directory = folder.0.path().to_str().unwrap();
    // A gzip stream that ends too soon.
    let cut = folder.file("cut", b"\x1f\x8b\x08\0\0\0\0\0\0\x03\x4b");
    for path in [missing, directory, &cut] {
        for arguments in [
            &["check", path][..],
            &["show", path],
            &["diff", path, path],
            &["digest", path],
            &["convert", path, "--to", "csv"],
            &["convert", path, "--to", "jsonl"],
            &["stats", path],
            &["stats", path, "--json"],
        ] {
            let (code, text, errors) = run(arguments);
            assert_eq!((code, text.as_str()), (2, ""), "{arguments:?}: {errors}");
            assert!(errors.contains(path), "{arguments:?}: {errors}");
            assert!(!errors.contains("panicked"), "{errors}");
        }
    }
    let path = folder.file("good", good());
    for arguments in [
        &["digest", &path, "--vote", missing][..],
        &["show", &path, "no-name"],
        &["check", &path, "--now", "noon"],
        &["check"],
        &[],
    ] {
        assert_eq!(run(arguments).0, 2, "{arguments:?}");
    }
}

#[test]
fn whoever_has_read_enough_may_go() {
    let folder = Folder::new();
    let mut file = good();
    for number in 0..20_000 {
        file += &format!("bw=x{number} nick=relay{number} node_id=$zz unheard_of=1\n");
    }
    let path = folder.file("large", file);
    for arguments in [
        &["check", &path, "--notes"][..],
        &["check", &path, "--json"],
        &["show", &path],
        &["show", &path, "--json"],
        &["convert", &path, "--to", "csv"],
        &["convert", &path, "--to", "jsonl"],
    ] {
        let mut child = bwscan_file(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut first = [0; 1];
        let mut stdout = child.stdout.take().unwrap();
        stdout.read_exact(&mut first).unwrap();
        drop(stdout);
        let (code, _, errors) = said(child.wait_with_output().unwrap());
        assert_eq!((code, errors.as_str()), (0, ""), "{arguments:?}");
    }
}
