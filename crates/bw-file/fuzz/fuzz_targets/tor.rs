//! Any input: a verdict without panics, whose parts agree.
#![no_main]

use bw_file::{Document, FileDigest, MAX_VOTE_HEADER_BYTES, TorJudge, UnixTime};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let verdict = TorJudge::new(UnixTime::new(1_700_000_000)).judge(bytes);
    assert!(verdict.headers_line().len() <= MAX_VOTE_HEADER_BYTES + 30);
    assert!(verdict.measured().len() <= verdict.used().len());
    assert_eq!(verdict.vote_lines().digest, Some(verdict.digest()));
    if verdict.refused() {
        assert!(verdict.used().is_empty());
    }
    if !bytes.contains(&0) {
        assert_eq!(verdict.digest(), FileDigest::of(bytes));
        // What tor uses, the document has as a relay line with the same
        // fingerprint; `bw` may differ where tor reads `+5` or `5\r`.
        let document = Document::parse(bytes);
        for used in verdict.used() {
            let line = usize::try_from(used.line).expect("a line of this input") - 1;
            if let Some(relay) = document.relay(line) {
                assert_eq!(relay.fingerprint(), Some(used.fingerprint));
            }
        }
    }
});
