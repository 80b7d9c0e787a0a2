//! The inputs of the fuzz targets, as ordinary tests: the same views and edits
//! as in `fuzz/fuzz_targets`, for those who do not run the fuzzer.

use std::path::Path;

use bw_file::{
    Document, FileDigest, HeaderFields, LintContext, MAX_VOTE_HEADER_BYTES, ReaderBuilder,
    RelayFields, RelayLine, TorJudge, UnixTime, lint, spec,
};

/// All inputs, whatever target they are for: each is good for all of them.
fn inputs() -> Vec<(String, Vec<u8>)> {
    let corpus = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus"));
    let mut inputs = Vec::new();
    for target in ["parse", "edit", "tor"] {
        let before = inputs.len();
        for entry in std::fs::read_dir(corpus.join(target)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(corpus).unwrap().display().to_string();
            inputs.push((name, std::fs::read(&path).unwrap()));
        }
        assert!(inputs.len() > before, "no inputs for {target}");
    }
    inputs
}

#[test]
fn inputs_are_kept_and_every_view_can_be_taken() {
    for (name, bytes) in inputs() {
        let document = Document::parse(&bytes);
        assert_eq!(document.to_bytes(), bytes, "{name}");
        let _ = (document.timestamp(), document.version(), document.index());
        let _ = HeaderFields::new(&document).into_owned();
        for relay in document.relays() {
            let fields = RelayFields::new(relay);
            let id = relay.fingerprint();
            assert_eq!(fields.node_id.as_value(), id.as_ref(), "{name}");
            assert_eq!(fields.bw.as_value(), relay.bandwidth().as_ref(), "{name}");
            fields.for_each(|_, _| {});
        }
        for report in [
            spec(&document, None),
            lint(&document, LintContext::default()),
        ] {
            let _ = report.display(&document).to_string();
        }

        let mut reader = ReaderBuilder::new().from_reader(&bytes[..]);
        let mut streamed = Vec::new();
        while let Some(line) = reader.next_line().unwrap() {
            streamed.extend_from_slice(line.as_bytes());
        }
        assert_eq!(streamed, bytes, "{name}");
        let mut reader = ReaderBuilder::new().from_reader(&bytes[..]);
        let mut whole = Vec::new();
        while let Some(document) = reader.next_document().unwrap() {
            whole.extend_from_slice(&document.to_bytes());
        }
        assert_eq!(whole, bytes, "{name}");
    }
}

/// As the target `edit` reads its input: eight bytes that choose edits, then
/// the file.
fn edit(name: &str, edits: &[u8], bytes: &[u8]) {
    const KEYS: [&str; 6] = ["bw", "node_id", "vote", "nick", "version", "x"];
    let mut document = Document::parse(bytes);
    for &edit in edits {
        let key = KEYS[usize::from(edit >> 4) % KEYS.len()];
        let nth = usize::from(edit >> 4) % document.relays().count().max(1);
        match edit & 15 {
            0 => drop(document.set_header(key, "1.4.0")),
            1 => {
                document.remove_header(key);
            }
            2 => edit_nth(&mut document, nth, |relay| drop(relay.set(key, "7"))),
            3 => edit_nth(&mut document, nth, |relay| {
                relay.remove(key);
            }),
            4 => {
                let relay = document
                    .relays()
                    .nth(nth)
                    .and_then(|relay| relay.fingerprint());
                let _ = relay.map(|relay| document.remove_relay(&relay));
            }
            5 => {
                let line = RelayLine::new("bw=1 node_id=x").unwrap();
                drop(document.push_relay(&line));
            }
            6 => document.sort_relays_by(|relay| relay.bandwidth()),
            7 => drop(document.insert_header(usize::from(edit >> 4), key, "x")),
            8 => edit_nth(&mut document, nth, |relay| {
                drop(relay.insert(usize::from(edit >> 5), key, "8"));
            }),
            9 => {
                let line = RelayLine::new("node_id=y\tbw=2").unwrap();
                drop(document.insert_relay(usize::from(edit >> 4), &line));
            }
            10 => document.retain_relays(|relay| relay.bandwidth().is_some()),
            _ => drop(document.set_timestamp(UnixTime::new(i64::from(edit)))),
        }
        assert_eq!(
            Document::parse(&document.to_bytes()),
            document,
            "{name}: after {edit:#x} of {edits:x?}"
        );
    }
}

#[test]
fn edits_leave_what_parsing_gives() {
    for (name, bytes) in inputs() {
        if let Some((edits, rest)) = bytes.split_at_checked(8) {
            edit(&name, edits, rest);
        }
        // Each edit alone and after another, on the whole input.
        for first in 0..12 {
            for second in 0..12 {
                edit(&name, &[first, second | 0x10], &bytes);
                edit(&name, &[first | 0x50, second], &bytes);
            }
        }
    }
}

#[test]
fn tors_verdicts_hold_together() {
    for (name, bytes) in inputs() {
        let judge = TorJudge::new(UnixTime::new(1_700_000_000));
        let verdict = judge.judge(&bytes);
        assert!(
            verdict.headers_line().len() <= MAX_VOTE_HEADER_BYTES + 30,
            "{name}"
        );
        assert!(verdict.measured().len() <= verdict.used().len(), "{name}");
        assert_eq!(
            verdict.vote_lines().digest,
            Some(verdict.digest()),
            "{name}"
        );
        assert!(!verdict.refused() || verdict.used().is_empty(), "{name}");
        let document = Document::parse(&bytes);
        let _ = verdict.report(&document).display(&document).to_string();
        if bytes.contains(&0) {
            continue;
        }
        assert_eq!(verdict.digest(), FileDigest::of(&bytes), "{name}");
        for used in verdict.used() {
            let line = usize::try_from(used.line).unwrap() - 1;
            if let Some(relay) = document.relay(line) {
                assert_eq!(relay.fingerprint(), Some(used.fingerprint), "{name}");
            }
        }
    }
}

/// Edits the relay line with this number.
fn edit_nth(document: &mut Document<'_>, nth: usize, edit: impl Fn(&mut RelayLine)) {
    let mut number = 0;
    let _ = document.edit_relays(|relay| {
        if number == nth {
            edit(relay);
        }
        number += 1;
        Ok::<(), bw_file::Error>(())
    });
}
