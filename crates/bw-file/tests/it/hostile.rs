//! Input that is made to do harm. That it is also read in bounded memory is
//! tested in `tests/memory.rs`, and that the time grows linearly is shown by
//! the group `growth` of `benches/read.rs`.

use bw_file::{
    Code, Diff, Document, ErrorKind, FileDigest, HeaderFields, Limit, Limits, LintContext, Reader,
    RelayFields, Report, Severity, TorJudge, TorWarningKind, UnixTime, lint, spec,
};

const NOW: UnixTime = UnixTime::new(1_700_000_000);
const ID: &str = "node_id=$0123456789012345678901234567890123456789";
const MANY: usize = 1_000_000;

/// Takes every view there is, and returns what the specification says.
fn look_at_everything(bytes: &[u8]) -> Report {
    let document = Document::parse(bytes);
    assert!(document.to_bytes() == bytes);
    let _ = HeaderFields::new(&document);
    for relay in document.relays() {
        let _ = RelayFields::new(relay);
    }
    let report = spec(&document, None);
    let verdict = TorJudge::new(NOW).judge(bytes);
    for report in [
        &report,
        &lint(&document, LintContext::at(NOW)),
        &verdict.report(&document),
    ] {
        // Not a line for each of a million faults, nor all of a long line.
        let text = report.display(&document).to_string();
        assert!(text.len() < 10 << 20, "{}", text.len());
    }
    assert!(Diff::between(&document, &document).is_empty());
    #[cfg(feature = "csv")]
    bw_file::write_csv(&document, std::io::sink()).unwrap();
    report
}

#[test]
fn a_million_times_the_same_key() {
    let mut bytes = format!("1700000000\n=====\n{ID}").into_bytes();
    for number in 0..MANY {
        bytes.extend_from_slice(format!(" bw={number}").as_bytes());
    }
    bytes.push(b'\n');
    let report = look_at_everything(&bytes);
    assert!(report.has(Code::DuplicateKey));
    assert_eq!(report.count(Severity::Error), 1);
    let verdict = TorJudge::new(NOW).judge(&bytes);
    assert_eq!(verdict.used().len(), 0);
    assert_eq!(verdict.warnings()[0].kind, TorWarningKind::BandwidthTwice);

    // The last one counts, and an edit changes one or removes all.
    let mut document = Document::parse(&bytes);
    let last = u64::try_from(MANY).unwrap() - 1;
    let bandwidth = |document: &Document<'_>| document.relay(2).unwrap().bandwidth();
    assert_eq!(
        bandwidth(&document).map(bw_file::KilobytesPerSecond::value),
        Some(last)
    );
    document.edit_relays(|relay| relay.set("bw", "7")).unwrap();
    assert_eq!(
        bandwidth(&document).map(bw_file::KilobytesPerSecond::value),
        Some(7)
    );
    let removed = document.edit_relays(|relay| match relay.remove("bw") {
        MANY => Ok(()),
        other => Err(other),
    });
    assert_eq!(removed, Ok(()));
    assert_eq!(
        document.to_bytes(),
        format!("1700000000\n=====\n{ID}\n").into_bytes()
    );

    // A reader of streams does not take such a line unless it is told to.
    let mut reader = Reader::new(&bytes[..]);
    let error = reader.next_relay().unwrap_err();
    assert_eq!(
        error.to_string(),
        "line 3, column 1 (byte 17): more than 1048576 bytes in a line; \
         raise the limit if the input is to be trusted"
    );
    assert!(reader.next_relay().unwrap().is_none());
}

#[test]
fn a_million_keys_that_nobody_knows() {
    let mut bytes = format!("1700000000\n=====\nbw=5 {ID}").into_bytes();
    for number in 0..MANY {
        bytes.extend_from_slice(format!(" k{number}=v").as_bytes());
    }
    bytes.push(b'\n');
    let report = look_at_everything(&bytes);
    assert_eq!(report.count(Severity::Note), u64::try_from(MANY).unwrap());
    assert!(report.diagnostics().len() <= 10_000);
    let document = Document::parse(&bytes);
    let relay = document.relays().next().unwrap();
    assert_eq!(relay.get(b"k999999"), Some(&b"v"[..]));
    assert_eq!(RelayFields::new(relay).other.len(), MANY);
    assert_eq!(TorJudge::new(NOW).judge(&bytes).used().len(), 1);
}

#[test]
fn half_a_million_annotations_and_headers() {
    let bytes = [
        &b"@type bandwidth-file 1.0\n".repeat(MANY / 2)[..],
        b"1700000000\n",
        &b"file_created=2023-11-14T22:13:19\n".repeat(MANY / 2),
    ]
    .concat();
    let report = look_at_everything(&bytes);
    // The first ten thousand are kept, all of them are counted.
    assert!(report.has(Code::Annotation) && report.diagnostics().len() <= 10_000);
    assert!(report.count(Severity::Error) >= u64::try_from(MANY / 2).unwrap() - 1);
    let mut document = Document::parse(&bytes);
    assert_eq!(document.headers().count(), MANY / 2);
    assert_eq!(document.remove_header("file_created"), MANY / 2);
    // tor takes what fits into a vote.
    let verdict = TorJudge::new(NOW).judge(&bytes[MANY / 2 * 25..]);
    assert_eq!(verdict.header_budget().0, 50);
}

#[test]
fn a_million_lines_of_one_relay() {
    let bytes = [
        b"1700000000\n=====\n",
        &format!("bw=5 {ID}\n").repeat(MANY).into_bytes()[..],
    ]
    .concat();
    let report = look_at_everything(&bytes);
    assert_eq!(
        report.count(Severity::Error),
        u64::try_from(MANY).unwrap() - 1
    );
    assert!(report.has(Code::DuplicateRelay));
    assert_eq!(
        Document::parse(&bytes)
            .index()
            .by_fingerprint(&"0123456789012345678901234567890123456789".parse().unwrap()),
        Some(MANY + 1)
    );
    assert_eq!(TorJudge::new(NOW).judge(&bytes).measured().len(), 1);

    // Two lines of header are too many for the default limits.
    let error = Document::parse_with_limits(&bytes, &Limits::default()).unwrap_err();
    assert!(matches!(
        error.kind(),
        ErrorKind::LimitExceeded { limit: Limit::Lines, maximum: 1_000_000, position, .. }
            if position.line == 1_000_001
    ));
}

#[test]
fn nul_bytes() {
    let mut bytes = format!("1700000000\n=====\nbw=5 {ID}\0 vote=0\n").into_bytes();
    bytes.extend(vec![0; 1 << 20]);
    bytes.extend_from_slice(b"\n\0");
    let report = look_at_everything(&bytes);
    assert_eq!(
        report
            .diagnostics()
            .iter()
            .filter(|found| found.code == Code::Nul)
            .count(),
        3
    );
    let verdict = TorJudge::new(NOW).judge(&bytes);
    // A NUL hides the line feed, and with it the line is not complete.
    assert!(verdict.used().is_empty());
    assert_ne!(verdict.digest(), FileDigest::of(&bytes));

    // Nothing but NULs is a file too: one that tor refuses.
    let zeros = vec![0; 1 << 20];
    assert!(look_at_everything(&zeros).has(Code::InvalidTimestamp));
    assert!(TorJudge::new(NOW).judge(&zeros).refused());
}

#[test]
fn bytes_outside_utf_8() {
    let mut bytes = b"1700000000\nsoftware=\xff\xfe\n\xc0\xaf=x\n=====\nbw=5 ".to_vec();
    bytes.extend_from_slice(ID.as_bytes());
    bytes.extend_from_slice(b" nick=\xed\xa0\x80 \xff\xff=\xff\n");
    bytes.extend((0..=u8::MAX).cycle().take(1 << 20));
    let report = look_at_everything(&bytes);
    assert!(report.has(Code::NonAscii));
    let document = Document::parse(&bytes);
    assert_eq!(document.header(b"software"), Some(&b"\xff\xfe"[..]));
    let relay = document.relays().next().unwrap();
    assert_eq!(
        relay.bandwidth().map(bw_file::KilobytesPerSecond::value),
        Some(5)
    );
    assert!(relay.nick().is_invalid());
    assert_eq!(relay.get(b"nick"), Some(&b"\xed\xa0\x80"[..]));
    assert_eq!(relay.get(b"\xff\xff"), Some(&b"\xff"[..]));
}
