//! Properties that hold for every input.

use bw_file::{
    Diff, Document, FileBuilder, Fingerprint, KilobytesPerSecond, LintContext, RelayBuilder,
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
        "[!-~&&[^N]]{1,100}",
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

proptest! {
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

    #[test]
    fn edits_commute_with_parsing(bytes in bytes(), key in "[a-z_]{1,8}", value in "[!-~]{1,8}") {
        let mut document = Document::parse(&bytes);
        let _ = document.set_header(&key, &value);
        let lines: Vec<usize> = document.relay_lines().map(|(line, _)| line).collect();
        for line in lines {
            let _ = document.set_relay_key(line, &key, &value);
        }
        document.remove_header("version");
        let edited = document.to_bytes();
        prop_assert_eq!(Document::parse(&edited), document);
    }
}
