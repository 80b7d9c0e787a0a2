//! Any input: kept byte for byte, streamed as it is parsed, and every view of
//! it can be taken.
#![no_main]

use bw_file::{Document, HeaderFields, ReaderBuilder, RelayFields};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let document = Document::parse(bytes);
    assert_eq!(document.to_bytes(), bytes);
    let _ = (document.timestamp(), document.version(), document.index());
    let _ = HeaderFields::new(&document).into_owned();
    for relay in document.relays() {
        let fields = RelayFields::new(relay);
        assert_eq!(fields.bw.as_value(), relay.bandwidth().as_ref());
        assert_eq!(fields.node_id.as_value(), relay.fingerprint().as_ref());
        assert_eq!(fields.bw.as_value(), relay.bandwidth().as_ref());
        fields.for_each(|_, _| {});
    }
    let mut reader = ReaderBuilder::new().from_reader(bytes);
    let mut streamed = Vec::new();
    while let Some(line) = reader.next_line().expect("no limit is reached") {
        streamed.extend_from_slice(line.bytes);
    }
    assert_eq!(streamed, bytes);
    let mut reader = ReaderBuilder::new().from_reader(bytes);
    let mut whole = Vec::new();
    while let Some(document) = reader.next_document().expect("no limit is reached") {
        whole.extend_from_slice(&document.to_bytes());
    }
    assert_eq!(whole, bytes);
});
