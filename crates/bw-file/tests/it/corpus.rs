//! All sample files: kept byte for byte, and read with a diagnostic for each
//! deviation.

use std::path::Path;

use bw_file::{Code, Document, LintContext, RelayFields, Report, lint, spec};

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

/// What each input of `original/readers` must be told of, beyond notes.
const DEVIATIONS: &[(&str, &[Code])] = &[
    ("attype", &[Code::Annotation]),
    ("bad_utf8", &[Code::NonAscii]),
    ("bare_word", &[Code::BareWord]),
    ("blank_body", &[Code::BlankLine]),
    ("blank_hdr", &[Code::BlankLine]),
    ("bom", &[Code::ByteOrderMark]),
    ("bw_0", &[Code::ZeroBandwidth]),
    ("bw_2p31", &[Code::BandwidthTooLarge]),
    ("bw_abc", &[Code::InvalidBandwidth]),
    ("bw_neg", &[Code::InvalidBandwidth]),
    ("country_00", &[Code::CountryForm]),
    ("country_lower", &[Code::CountryForm]),
    ("crlf", &[Code::CarriageReturn]),
    ("dollar2", &[Code::InvalidFingerprint]),
    ("dt_Z", &[Code::DateTimeForm]),
    ("dt_frac", &[Code::DateTimeForm]),
    ("dt_nosec", &[Code::DateTimeForm]),
    ("dt_space", &[Code::DateTimeForm, Code::SpaceInHeader]),
    ("dup_relay", &[Code::DuplicateRelay]),
    ("empty", &[Code::MissingTimestamp]),
    ("hdr_after", &[Code::HeaderAfterRelays]),
    ("hdr_dup", &[Code::DuplicateHeader]),
    ("hdr_eq_value", &[]),
    ("hdr_noeq", &[Code::HeaderWithoutEquals]),
    ("hdr_space", &[Code::SpaceInHeader]),
    ("hdr_space_bw", &[Code::SpaceInHeader]),
    ("hdronly_no_term", &[Code::MissingTerminator]),
    ("id_short", &[Code::InvalidFingerprint]),
    ("key_only", &[Code::MissingNodeId]),
    ("lead_space", &[Code::WhiteSpace]),
    ("neg_int_hdr", &[Code::NegativeCount]),
    ("nel", &[Code::NonAscii]),
    ("no_bw", &[Code::MissingBandwidth]),
    ("no_dollar", &[Code::DollarMissing]),
    ("no_final_nl", &[Code::MissingFinalLineFeed]),
    ("no_term_relays", &[Code::MissingTerminator]),
    ("no_version", &[]),
    ("none_value", &[Code::WrittenNone]),
    ("ok", &[]),
    ("rel_dup_bw", &[Code::DuplicateKey]),
    ("rel_dup_key", &[Code::DuplicateKey]),
    ("rel_eq_value", &[]),
    ("tab", &[Code::WhiteSpace]),
    ("tab_hdr", &[Code::WhiteSpace]),
    ("term4", &[Code::ShortTerminator]),
    ("trail_space", &[Code::WhiteSpace]),
    ("trailing_blank", &[Code::BlankLine]),
    ("ts_9digit", &[]),
    ("ts_lead_space", &[Code::InvalidTimestamp]),
    ("ts_neg", &[Code::InvalidTimestamp]),
    ("ts_text", &[Code::InvalidTimestamp]),
    ("ts_trail_space", &[Code::InvalidTimestamp]),
    ("two_spaces", &[Code::WhiteSpace]),
    ("two_term", &[Code::SecondTerminator]),
    ("unknown_keys", &[Code::UnknownKey]),
    ("v100", &[]),
    ("version100_explicit", &[]),
    ("version_late", &[Code::VersionPosition]),
];

#[test]
fn every_deviation_has_its_diagnostic() {
    let Some(folder) = super::shared::folder() else {
        return;
    };
    let inputs = files(&folder.join("original/readers"));
    let inputs: Vec<_> = inputs
        .iter()
        .filter(|(name, _)| name.ends_with(".in"))
        .collect();
    assert_eq!(inputs.len(), DEVIATIONS.len());
    for (name, bytes) in inputs {
        let name = name.trim_end_matches(".in");
        let (_, expected) = DEVIATIONS.iter().find(|(known, _)| *known == name).unwrap();
        let document = Document::parse(bytes);
        let report: Report = spec(&document, None);
        for code in *expected {
            assert!(report.has(*code), "{name}: {code} of {report:?}");
        }
        let unexpected = report.diagnostics().iter().find(|found| {
            found.severity > bw_file::Severity::Note && !expected.contains(&found.code)
        });
        // Sometimes one deviation brings another with it.
        let brought = matches!(name, "crlf" | "nel" | "bad_utf8" | "hdr_after");
        assert!(unexpected.is_none() || brought, "{name}: {unexpected:?}");
        let relays = usize::from(!matches!(name, "empty" | "hdronly_no_term"));
        assert!(document.relays().count() >= relays, "{name}");
    }
}
