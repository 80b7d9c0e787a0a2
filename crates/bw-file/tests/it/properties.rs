//! Properties that hold for every input.

use bw_file::{
    Diff, Document, Field, FileBuilder, Fingerprint, KilobytesPerSecond, LintContext, RelayBuilder,
    RelayFields, Severity, TorJudge, UnixTime, lint, spec,
};
use proptest::prelude::*;

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..400),
        proptest::collection::vec(
            prop_oneof![
                Just("1700000000\n"),
                Just("version=1.4.0\n"),
                Just("=====\n"),
                Just("====\n"),
                Just("bw=1 "),
                Just("bw="),
                Just("node_id=$0123456789012345678901234567890123456789"),
                Just("\n"),
                Just("\r\n"),
                Just(" "),
                Just("\t"),
                Just("vote=0"),
                Just("nick=a "),
                Just("@type\n"),
                Just("\0"),
                Just("master_key_ed25519=x "),
                Just("None"),
            ],
            0..30
        )
        .prop_map(|parts| parts.concat().into_bytes()),
    ]
}

fn builder() -> impl Strategy<Value = FileBuilder> {
    let relay = (
        any::<[u8; 20]>(),
        1_u64..=2_147_483_647,
        any::<bool>(),
        "[0-9A-Za-z]{1,19}",
    );
    (
        0_i64..=4_000_000_000,
        "[!-~]{1,100}",
        proptest::collection::btree_map(0_u8..30, relay, 0..30),
    )
        .prop_map(|(timestamp, software, relays)| {
            let mut builder = FileBuilder::new(UnixTime::new(timestamp));
            builder
                .software(&software)
                .mu(bw_file::BytesPerSecond::new(7));
            for (number, (mut fingerprint, bw, unmeasured, nick)) in relays {
                fingerprint[0] = number;
                let fingerprint = Fingerprint::from_bytes(fingerprint);
                let mut relay = if unmeasured {
                    RelayBuilder::unmeasured_relay(fingerprint)
                } else {
                    RelayBuilder::new(fingerprint, KilobytesPerSecond::new(bw))
                };
                relay.nick(&nick);
                builder.push_relay(relay);
            }
            builder
        })
}

/// Legal nicknames (dir-spec), and those among them that mean something elsewhere.
fn nickname() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[0-9A-Za-z]{1,19}",
        1 => proptest::sample::select(vec![
            "None", "none", "NONE", "null", "nan", "NaN", "inf", "True", "False", "0", "1", "bw",
            "vote", "nick", "unmeasured", "Unnamed", "version", "1700000000",
        ])
        .prop_map(str::to_owned),
    ]
}

proptest! {
    /// No name that a relay gives itself stops a file or is read as something else.
    #[test]
    fn every_legal_nickname_is_written_and_read_as_it_is(nick in nickname()) {
        let fingerprint = Fingerprint::from_bytes([0xAB; 20]);
        let mut relay = RelayBuilder::new(fingerprint, KilobytesPerSecond::new(760));
        relay.nick(&nick);
        let mut builder = FileBuilder::new(UnixTime::new(1_700_000_000));
        builder.push_relay(relay);
        let bytes = builder.build().unwrap();
        let document = Document::parse(&bytes);
        let line = document.relays().next().unwrap();
        prop_assert_eq!(line.fingerprint(), Some(fingerprint));
        prop_assert!(line.is_voted());
        let expected = Field::Value(nick.as_str().into());
        prop_assert_eq!(line.nick(), expected.clone());
        let fields = RelayFields::new(line);
        prop_assert_eq!(&fields.nick, &expected);
        let json = serde_json::to_value(&fields).unwrap();
        prop_assert_eq!(&json["nick"], nick.as_str());
        let back: RelayFields<'_> = serde_json::from_value(json).unwrap();
        prop_assert_eq!(back, fields);
        let report = spec(&document, None);
        prop_assert!(report.is_clean_of(Severity::Note), "{:?}", report);
        let verdict = TorJudge::new(UnixTime::new(1_700_000_000)).judge(&bytes);
        prop_assert_eq!((verdict.used().len(), verdict.warnings().len()), (1, 0));
    }

    /// Nor does what it says of its software, or a contact in some other key.
    #[test]
    fn every_text_is_written_and_read_as_it_is(text in prop_oneof!["[!-~]{1,100}", Just("None".to_owned())]) {
        let fingerprint = Fingerprint::from_bytes([0xAB; 20]);
        let mut relay = RelayBuilder::new(fingerprint, KilobytesPerSecond::new(760));
        relay.scanner(&text).key("contact", &text);
        let mut builder = FileBuilder::new(UnixTime::new(1_700_000_000));
        builder.software(&text).software_version(&text).tor_version(&text).push_relay(relay);
        let bytes = builder.build().unwrap();
        let document = Document::parse(&bytes);
        let header = bw_file::HeaderFields::new(&document);
        let expected = Field::Value(text.as_str().into());
        prop_assert_eq!(&header.software, &expected);
        prop_assert_eq!(&header.tor_version, &expected);
        let line = document.relays().next().unwrap();
        prop_assert_eq!(line.scanner(), expected);
        prop_assert_eq!(line.get(b"contact"), Some(text.as_bytes()));
        prop_assert_eq!(line.bandwidth(), Some(KilobytesPerSecond::new(760)));
        let report = spec(&document, None);
        prop_assert!(report.is_clean_of(Severity::Warning), "{:?}", report);
    }

    #[test]
    fn any_bytes_round_trip_and_are_judged(bytes in bytes(), now in any::<i64>()) {
        let document = Document::parse(&bytes);
        prop_assert_eq!(document.to_bytes(), &bytes[..]);
        let now = UnixTime::new(now);
        for report in [
            spec(&document, None),
            lint(&document, LintContext::at(now)),
            TorJudge::new(now).judge(&bytes).report(&document),
        ] {
            let _ = report.display(&document).to_string();
        }
        prop_assert!(Diff::between(&document, &document).is_empty());
    }

    #[test]
    fn what_is_written_is_read(builder in builder()) {
        let bytes = builder.build().unwrap();
        let document = Document::parse(&bytes);
        let relays: Vec<_> = document.relays().collect();
        prop_assert_eq!(relays.len(), builder.relays().len());
        for (line, relay) in relays.iter().zip(builder.relays()) {
            prop_assert_eq!(line.fingerprint(), Some(relay.fingerprint()));
            prop_assert_eq!(line.bandwidth(), Some(relay.bandwidth()));
            prop_assert!(RelayFields::new(*line).other.is_empty());
        }
        let report = spec(&document, None);
        prop_assert!(report.is_clean_of(Severity::Warning), "{:?}", report);
        let verdict = TorJudge::new(document.timestamp().value().unwrap()).judge(&bytes);
        prop_assert!(verdict.casts_vote() && verdict.warnings().is_empty());
        let voted = relays.iter().filter(|line| line.is_voted()).count();
        prop_assert_eq!(verdict.used().len(), voted);
    }

    /// JSON has every byte of every pair, UTF-8 or not.
    #[test]
    fn json_loses_no_byte(bytes in bytes(), key in "[a-z]{1,9}", value in proptest::collection::vec(0x80_u8.., 1..9)) {
        let line = [b"bw=1 node_id=x software=\\ ", key.as_bytes(), b"=", &value, b"\n"].concat();
        let file = [&b"1700000000\n"[..], &bytes, b"\n=====\n", &line].concat();
        let document = Document::parse(&file);
        for relay in document.relays() {
            let fields = RelayFields::new(relay);
            let json = serde_json::to_string(&fields).unwrap();
            let back: RelayFields<'_> = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(back, fields);
        }
    }

    #[test]
    fn edits_commute_with_parsing(bytes in bytes(), key in "[a-z_]{1,8}", value in "[!-~]{1,8}") {
        let mut document = Document::parse(&bytes);
        let _ = document.set_header(&key, &value);
        let _ = document.edit_relays(|relay| relay.set(&key, &value));
        document.remove_header("version");
        let edited = document.to_bytes();
        prop_assert_eq!(Document::parse(&edited), document);
    }
}
