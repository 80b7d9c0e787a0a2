//! Any edits of any input: the document is afterwards what parsing its bytes
//! gives. The first bytes of the input choose the edits.
#![no_main]

use bw_file::{Document, RelayLine, UnixTime};
use libfuzzer_sys::fuzz_target;

const KEYS: [&str; 6] = ["bw", "node_id", "vote", "nick", "version", "x"];

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

fuzz_target!(|input: &[u8]| {
    let Some((edits, bytes)) = input.split_at_checked(8) else {
        return;
    };
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
                let relay = document.relays().nth(nth).and_then(|relay| relay.fingerprint());
                let _ = relay.map(|relay| document.remove_relay(&relay));
            }
            5 => {
                let line = RelayLine::new("bw=1 node_id=x").expect("one line");
                drop(document.push_relay(&line));
            }
            6 => document.sort_relays_by(|relay| relay.bandwidth()),
            7 => drop(document.insert_header(usize::from(edit >> 4), key, "x")),
            8 => edit_nth(&mut document, nth, |relay| {
                drop(relay.insert(usize::from(edit >> 5), key, "8"));
            }),
            9 => {
                let line = RelayLine::new("node_id=y\tbw=2").expect("one line");
                drop(document.insert_relay(usize::from(edit >> 4), &line));
            }
            10 => document.retain_relays(|relay| relay.bandwidth().is_some()),
            _ => drop(document.set_timestamp(UnixTime::new(i64::from(edit)))),
        }
        let bytes = document.to_bytes();
        assert_eq!(Document::parse(&bytes), document);
    }
});
