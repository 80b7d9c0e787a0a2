//! Files as the programs that write bandwidth files have them, made from
//! scratch: what they say, what the specification finds, and what tor makes of
//! them. `tests/tor_judgement.rs` of the workspace gives the same files to real
//! authorities.

use std::path::Path;

use bw_file::{
    Code, Document, Ed25519Identity, Field, HeaderFields, LintContext, RelayFields, Severity,
    TorJudge, UnixTime, lint, spec,
};

struct Expected {
    name: &'static str,
    version: &'static str,
    /// Relay lines: all, used by tor, skipped for `vote=0`.
    relays: (usize, usize, u64),
    /// Warnings of one reading.
    warnings: usize,
    /// Entries and bytes of the header in a vote.
    header: (usize, usize),
    /// Findings of specification and plausibility that are more than notes.
    codes: &'static [Code],
}

#[rustfmt::skip]
const EXPECTED: &[Expected] = &[
    Expected { name: "58-headers", version: "1.1.0", relays: (1, 1, 0), warnings: 0, header: (50, 408), codes: &[Code::HeaderBudget] },
    Expected { name: "collector-v1.4.0", version: "1.4.0", relays: (2, 1, 1), warnings: 0, header: (25, 771), codes: &[Code::NegativeCount] },
    Expected { name: "flashflow", version: "1.5.0", relays: (3, 3, 0), warnings: 0, header: (4, 80), codes: &[] },
    Expected { name: "headers-after-relays", version: "1.0.0", relays: (2, 2, 0), warnings: 2, header: (1, 20), codes: &[Code::DuplicateRelay, Code::HeaderAfterRelays] },
    Expected { name: "obsolete-keys-v1.2.0", version: "1.2.0", relays: (1, 1, 0), warnings: 0, header: (13, 365), codes: &[] },
    Expected { name: "sample-keys-v1.1.0", version: "1.1.0", relays: (1, 1, 0), warnings: 0, header: (3, 48), codes: &[Code::InvalidIdentity] },
    Expected { name: "sbws-1.0.0-v1.1.0", version: "1.1.0", relays: (2, 2, 0), warnings: 0, header: (8, 218), codes: &[Code::ShortTerminator] },
    Expected { name: "sbws-1.0.3-v1.2.0", version: "1.2.0", relays: (2, 2, 0), warnings: 0, header: (13, 365), codes: &[] },
    Expected { name: "sbws-1.0.3-v1.2.0-too-few", version: "1.2.0", relays: (0, 0, 0), warnings: 0, header: (13, 373), codes: &[] },
    Expected { name: "sbws-1.1.0-v1.4.0", version: "1.4.0", relays: (3, 2, 1), warnings: 0, header: (25, 771), codes: &[Code::NegativeCount] },
    Expected { name: "sbws-1.1.0-v1.4.0-too-few", version: "1.4.0", relays: (3, 0, 3), warnings: 0, header: (25, 771), codes: &[Code::NegativeCount] },
    Expected { name: "sbws-1.5.2-v1.5.0", version: "1.5.0", relays: (3, 3, 0), warnings: 0, header: (24, 732), codes: &[Code::BareUnmeasured, Code::NegativeCount, Code::WrittenNone] },
    Expected { name: "sbws-2.2.0-v1.9.0", version: "1.9.0", relays: (3, 2, 1), warnings: 0, header: (27, 788), codes: &[Code::NegativeCount] },
    Expected { name: "sbws-draft-v0.1.0", version: "0.1.0", relays: (3, 3, 0), warnings: 0, header: (2, 34), codes: &[Code::DateTimeForm, Code::MissingTerminator] },
    Expected { name: "shadow", version: "1.0.0", relays: (2, 2, 0), warnings: 1, header: (1, 19), codes: &[Code::BlankLine, Code::WhiteSpace] },
    Expected { name: "spec-v1.3.0", version: "1.3.0", relays: (0, 0, 0), warnings: 0, header: (15, 411), codes: &[] },
    Expected { name: "torflow-1.0.0", version: "1.0.0", relays: (4, 4, 0), warnings: 0, header: (1, 20), codes: &[] },
    Expected { name: "tornettools", version: "1.0.0", relays: (4, 4, 0), warnings: 0, header: (1, 19), codes: &[Code::WhiteSpace] },
    Expected { name: "two-terminators", version: "1.1.0", relays: (2, 0, 0), warnings: 3, header: (2, 34), codes: &[Code::InvalidFingerprint, Code::MissingNodeId, Code::SecondTerminator] },
    Expected { name: "vote-0", version: "1.0.0", relays: (4, 1, 3), warnings: 0, header: (1, 20), codes: &[Code::BooleanForm] },
];

fn file(name: &str) -> Vec<u8> {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/writers"));
    let path = folder.join(format!("{name}.v3bw"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn every_writer_is_read_and_judged() {
    for expected in EXPECTED {
        let (name, bytes) = (expected.name, file(expected.name));
        let document = Document::parse(&bytes);
        assert_eq!(document.to_bytes(), bytes, "{name}");
        let version = document.version().value().unwrap().to_string();
        assert_eq!(version, expected.version, "{name}");
        let at = document.timestamp().value().unwrap();
        let verdict = TorJudge::new(at).judge_archived(&bytes);
        let relays = document.relays().count();
        assert_eq!(
            (relays, verdict.used().len(), verdict.skipped()),
            expected.relays,
            "{name}"
        );
        assert_eq!(verdict.warnings().len(), expected.warnings, "{name}");
        assert_eq!(verdict.header_budget(), expected.header, "{name}");
        let (spec, lint) = (spec(&document, None), lint(&document, LintContext::at(at)));
        let mut codes: Vec<Code> = spec
            .counts()
            .chain(lint.counts())
            .map(|(code, _)| code)
            .collect();
        codes.retain(|code| code.severity() > Severity::Note);
        codes.sort();
        assert_eq!(codes, expected.codes, "{name}");
    }
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/writers");
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), EXPECTED.len());
}

#[test]
fn what_torflow_says() {
    let bytes = file("torflow-1.0.0");
    let document = Document::parse(&bytes);
    let fields: Vec<_> = document.relays().map(RelayFields::new).collect();
    let errors: Vec<_> = fields
        .iter()
        .map(|relay| relay.pid_error.clone().value())
        .collect();
    assert_eq!(errors, [4.885_934_890_94, 0.333, -0.251, -1e-5].map(Some));
    let first = &fields[0];
    assert_eq!(first.bw.as_value().unwrap().value(), 7889);
    assert_eq!(first.pid_bw.as_value().unwrap().value(), 7889 * 1013);
    assert_eq!(
        first.measured_at,
        Field::Value(UnixTime::new(1_699_997_000))
    );
    assert_eq!(first.circ_fail, Field::Value(0.1));
    let scanner = first.scanner.as_value().unwrap();
    assert!(scanner.ends_with("bws-1.0:1.8-done-2023-11-14-20:11:00"));
    assert!(first.other.is_empty() && first.master_key_ed25519.is_absent());
}

#[test]
fn what_sbws_says() {
    let bytes = file("sbws-2.2.0-v1.9.0");
    let document = Document::parse(&bytes);
    let header = HeaderFields::new(&document);
    assert_eq!(header.mu.value().unwrap().value(), 801_234);
    assert_eq!(header.recent_measurement_failure_count, Field::Value(-12));
    assert_eq!(header.percent_eligible_relays.value().unwrap().value(), 114);
    let line = document.relays().next().unwrap();
    let relay = RelayFields::new(line);
    assert_eq!(
        (relay.r_strm, relay.r_strm_filt),
        (Field::Value(1.0), Field::Value(0.97))
    );
    assert_eq!(relay.xoff_recv, Field::Value(0));
    let identity: Ed25519Identity = relay.master_key_ed25519.value().unwrap();
    let index = document.index();
    assert_eq!(
        index.by_identity(&identity),
        index.by_fingerprint(&line.fingerprint().unwrap())
    );

    let bytes = file("sbws-1.5.2-v1.5.0");
    let document = Document::parse(&bytes);
    let relays: Vec<_> = document.relays().collect();
    assert_eq!(relays[1].consensus_bandwidth(), Field::WrittenNone);
    assert_eq!(relays[1].desc_bw_avg(), Field::WrittenNone);
    assert!(relays[2].unmeasured().is_absent() && relays[2].is_voted());
}
