//! All sample files: kept byte for byte, and read with a diagnostic for each
//! deviation.

use std::path::Path;

use bw_file::{Code, Document, LintContext, RelayFields, Severity, lint, spec};

fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(self::files(&path));
        } else {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            files.push((name, std::fs::read(path).unwrap()));
        }
    }
    files
}

fn round_trips(folder: &Path, at_least: usize) {
    let files = files(folder);
    assert!(files.len() >= at_least, "{}", files.len());
    for (name, bytes) in files {
        let document = Document::parse(&bytes);
        assert_eq!(document.to_bytes(), bytes, "{name}");
        for relay in document.relays() {
            let _ = RelayFields::new(relay).into_owned();
        }
        let _ = (
            spec(&document, None),
            lint(&document, LintContext::default()),
        );
    }
}

#[test]
fn our_files_round_trip() {
    round_trips(
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data")),
        30,
    );
}

#[test]
fn shared_files_round_trip() {
    if let Some(folder) = super::shared::folder() {
        round_trips(&folder, 130);
    }
}

/// Inputs on which readers are known to disagree, and what each must be told
/// of beyond notes. `H` stands for a good start of the file, `A` and `B` for
/// good relay lines without their line feeds, `I` for `A`'s `node_id`.
const DEVIATIONS: &[(&str, &[u8], &[Code])] = &[
    (
        "attype",
        b"@type bandwidth-file 1.0\nHA\n",
        &[Code::Annotation],
    ),
    (
        "bad_utf8",
        b"HI bw=1 nick=\xff\n",
        &[Code::NonAscii, Code::InvalidValue],
    ),
    ("bare_word", b"HA word\n", &[Code::BareWord]),
    ("blank_body", b"HA\n\nB\n", &[Code::BlankLine]),
    (
        "blank_hdr",
        b"1700000000\nversion=1.4.0\n\nsoftware=x\n=====\nA\n",
        &[Code::BlankLine],
    ),
    ("bom", b"\xef\xbb\xbfHA\n", &[Code::ByteOrderMark]),
    ("bw_0", b"HI bw=0\n", &[Code::ZeroBandwidth]),
    ("bw_2p31", b"HI bw=2147483648\n", &[Code::BandwidthTooLarge]),
    ("bw_abc", b"HI bw=abc\n", &[Code::InvalidBandwidth]),
    ("bw_neg", b"HI bw=-1\n", &[Code::InvalidBandwidth]),
    (
        "country_00",
        b"1700000000\nversion=1.4.0\ndestinations_countries=00,DE\n=====\nA\n",
        &[Code::CountryForm],
    ),
    (
        "country_lower",
        b"1700000000\nversion=1.4.0\nscanner_country=us\n=====\nA\n",
        &[Code::CountryForm],
    ),
    (
        "crlf",
        b"1700000000\r\nversion=1.4.0\r\n=====\r\nA\r\n",
        &[Code::CarriageReturn],
    ),
    (
        "dollar2",
        b"Hnode_id=$$ABABABABABABABABABABABABABABABABABABABAB bw=1\n",
        &[Code::InvalidFingerprint],
    ),
    (
        "dt_Z",
        b"1700000000\nversion=1.4.0\nfile_created=2023-11-15T05:35:06Z\n=====\nA\n",
        &[Code::DateTimeForm],
    ),
    (
        "dt_frac",
        b"1700000000\nversion=1.4.0\nfile_created=2023-11-15T05:35:06.5\n=====\nA\n",
        &[Code::DateTimeForm],
    ),
    (
        "dt_nosec",
        b"1700000000\nversion=1.4.0\nfile_created=2023-11-15T05:35\n=====\nA\n",
        &[Code::DateTimeForm],
    ),
    (
        "dt_space",
        b"1700000000\nversion=1.4.0\nfile_created=2023-11-15 05:35:06\n=====\nA\n",
        &[Code::DateTimeForm, Code::SpaceInHeader],
    ),
    ("dup_relay", b"HA\nI bw=761\n", &[Code::DuplicateRelay]),
    ("empty", b"", &[Code::MissingTimestamp]),
    ("hdr_after", b"HA\nx=1\n", &[Code::HeaderAfterRelays]),
    (
        "hdr_dup",
        b"1700000000\nversion=1.4.0\nsoftware=a\nsoftware=b\n=====\nA\n",
        &[Code::DuplicateHeader],
    ),
    (
        "hdr_eq_value",
        b"1700000000\nversion=1.4.0\nsoftware_version=a=b\n=====\nA\n",
        &[],
    ),
    (
        "hdr_noeq",
        b"1700000000\nversion=1.4.0\nfoo\n=====\nA\n",
        &[Code::HeaderWithoutEquals],
    ),
    (
        "hdr_space",
        b"1700000000\nversion=1.4.0\nnew=neat stuff\n=====\nA\n",
        &[Code::SpaceInHeader],
    ),
    (
        "hdr_space_bw",
        b"1700000000\nversion=1.4.0\nnew=x bw=3\n=====\nA\n",
        &[Code::SpaceInHeader],
    ),
    (
        "hdronly_no_term",
        b"1700000000\nversion=1.4.0\nsoftware=sbws\n",
        &[Code::MissingTerminator],
    ),
    (
        "id_short",
        b"Hnode_id=$ABC bw=1\n",
        &[Code::InvalidFingerprint],
    ),
    (
        "key_only",
        b"Hmaster_key_ed25519=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA bw=1\n",
        &[Code::MissingNodeId],
    ),
    ("lead_space", b"H A\n", &[Code::WhiteSpace]),
    (
        "neg_int_hdr",
        b"1700000000\nversion=1.4.0\nrecent_measurement_failure_count=-7\n=====\nA\n",
        &[Code::NegativeCount],
    ),
    (
        "nel",
        b"1700000000\nversion=1.4.0\nx=a\xc2\x85b\n=====\nA\n",
        &[Code::NonAscii],
    ),
    ("no_bw", b"HI\n", &[Code::MissingBandwidth]),
    (
        "no_dollar",
        b"Hnode_id=ABABABABABABABABABABABABABABABABABABABAB bw=1\n",
        &[Code::DollarMissing],
    ),
    ("no_final_nl", b"HA\nB", &[Code::MissingFinalLineFeed]),
    (
        "no_term_relays",
        b"1700000000\nversion=1.4.0\nsoftware=sbws\nA\nB\n",
        &[Code::MissingTerminator],
    ),
    ("no_version", b"1700000000\nsoftware=x\n=====\nA\n", &[]),
    (
        "none_value",
        b"HI bw=1 desc_bw_avg=None\n",
        &[Code::WrittenNone],
    ),
    ("ok", b"HA\nB\n", &[]),
    ("rel_dup_bw", b"HI bw=1 bw=2\n", &[Code::DuplicateKey]),
    (
        "rel_dup_key",
        b"HI bw=1 nick=a nick=b\n",
        &[Code::DuplicateKey],
    ),
    ("rel_eq_value", b"HI bw=1 nick=a=b\n", &[Code::NicknameForm]),
    (
        "tab",
        b"1700000000\nI\tbw=20\tnick=a\n",
        &[Code::WhiteSpace],
    ),
    ("tab_hdr", b"HI\tbw=20\tnick=a\n", &[Code::WhiteSpace]),
    (
        "term4",
        b"1700000000\nversion=1.4.0\nsoftware=sbws\n====\nA\nB\n",
        &[Code::ShortTerminator],
    ),
    ("trail_space", b"HA \n", &[Code::WhiteSpace]),
    ("trailing_blank", b"HA\nB\n\n", &[Code::BlankLine]),
    (
        "ts_9digit",
        b"946684801\nversion=1.4.0\nsoftware=sbws\n=====\nA\n",
        &[],
    ),
    ("ts_lead_space", b" HA\n", &[Code::InvalidTimestamp]),
    (
        "ts_neg",
        b"-5\nversion=1.4.0\nsoftware=sbws\n=====\nA\n",
        &[Code::InvalidTimestamp],
    ),
    (
        "ts_text",
        b"abc\nversion=1.4.0\nsoftware=sbws\n=====\nA\n",
        &[Code::InvalidTimestamp],
    ),
    (
        "ts_trail_space",
        b"1700000000 \nversion=1.4.0\nsoftware=sbws\n=====\nA\n",
        &[Code::InvalidTimestamp],
    ),
    ("two_spaces", b"HI  bw=1\n", &[Code::WhiteSpace]),
    ("two_term", b"H=====\nA\n", &[Code::SecondTerminator]),
    (
        "unknown_keys",
        b"1700000000\nversion=1.4.0\nzz=1\n=====\nA yy=2\n",
        &[Code::UnknownKey],
    ),
    ("v100", b"1700000000\nA\nB\n", &[]),
    (
        "version100_explicit",
        b"1700000000\nversion=1.0.0\n=====\nA\n",
        &[],
    ),
    (
        "version_late",
        b"1700000000\nsoftware=x\nversion=1.4.0\n=====\nA\n",
        &[Code::VersionPosition],
    ),
];

/// The file that a case of [`DEVIATIONS`] stands for.
fn written_out(case: &[u8]) -> Vec<u8> {
    const ID: &[u8] = b"node_id=$ABABABABABABABABABABABABABABABABABABABAB";
    let mut file = Vec::new();
    for (at, &byte) in case.iter().enumerate() {
        let line_start = at == 0 || matches!(case[at - 1], b'\n' | b' ' | b'H' | 0xbf);
        match byte {
            b'H' if line_start => {
                file.extend_from_slice(b"1700000000\nversion=1.4.0\nsoftware=sbws\n=====\n");
            }
            b'A' if line_start => file.extend([ID, b" bw=760 nick=Test"].concat()),
            b'B' if line_start => {
                let other = "node_id=$0123456789012345678901234567890123456789 bw=5 nick=B";
                file.extend_from_slice(other.as_bytes());
            }
            b'I' if line_start => file.extend_from_slice(ID),
            _ => file.push(byte),
        }
    }
    file
}

fn check_deviation(name: &str, bytes: &[u8], expected: &[Code]) {
    let document = Document::parse(bytes);
    assert_eq!(document.to_bytes(), bytes, "{name}");
    let report = spec(&document, None);
    for code in expected {
        assert!(report.has(*code), "{name}: {code} of {report:?}");
    }
    let unexpected = report
        .counts()
        .find(|(code, _)| code.severity() > Severity::Note && !expected.contains(code));
    // A byte that is not ASCII makes the value one that is not of its type.
    let brought = name == "nel" || name == "bad_utf8";
    assert!(unexpected.is_none() || brought, "{name}: {unexpected:?}");
    let relays = usize::from(!matches!(name, "empty" | "hdronly_no_term"));
    assert!(document.relays().count() >= relays, "{name}");
}

#[test]
fn every_deviation_has_its_diagnostic() {
    for (name, case, expected) in DEVIATIONS {
        check_deviation(name, &written_out(case), expected);
    }
    let Some(folder) = super::shared::folder() else {
        return;
    };
    // The same inputs with other relays.
    let inputs = files(&folder.join("original/readers"));
    let inputs = inputs
        .iter()
        .filter_map(|(name, bytes)| Some((name.strip_suffix(".in")?, bytes)));
    let mut checked = 0;
    for (name, bytes) in inputs {
        let (_, _, expected) = DEVIATIONS.iter().find(|case| case.0 == name).unwrap();
        check_deviation(name, bytes, expected);
        checked += 1;
    }
    assert_eq!(checked, DEVIATIONS.len());
}
