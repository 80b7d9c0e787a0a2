//! The JSON schema that comes with the crate: it agrees with the tables of
//! keys, and what is written agrees with it.

use bw_file::{
    Code, Diff, Document, HEADER_KEYS, HeaderFields, JSON_SCHEMA, KeyInfo, LintContext,
    NetworkComparison, RELAY_KEYS, RelayFields, Severity, TorJudge, TorWarningKind, UnixTime, lint,
    spec, write_json_lines_of,
};
use serde_json::{Value, json};

/// A file with a value of every state and type.
const FILE: &[u8] = b"1700000000\nversion=1.9.0\nsoftware=sb\xffws\nmu=None\nmuf=7\n\
    file_created=2023-11-14T22:13:20\nscanner_country=DE\ndestinations_countries=ZZ,DE\n\
    recent_measurement_failure_count=-7\nk=v\n=====\n\
    bw=760 node_id=$ABABABABABABABABABABABABABABABABABABABAB nick=a vote=1 r_strm=0.50 rtt=x \
    pid_error=inf pid_delta=nan pid_bw=5 measured_at=1699999999 desc_bw_avg=None k=v \
    master_key_ed25519=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA time=2023-11-14T22:13:20 \
    consensus_bandwidth_is_unmeasured=True\n\
    bw=2147483648 bw=1 node_id=$0123456789012345678901234567890123456789\n\
    bw=7 node_id=$0123456789012345678901234567890123456789 vote=0\n";

fn schema() -> Value {
    serde_json::from_str(JSON_SCHEMA).unwrap()
}

/// Checks a value against a definition of the schema.
fn check(definition: &str, value: &Value) {
    let mut schema = schema();
    assert!(schema["$defs"][definition].is_object(), "{definition}");
    schema["$ref"] = json!(format!("#/$defs/{definition}"));
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    let errors: Vec<String> = validator
        .iter_errors(value)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{definition}: {errors:?}\n{value:#}");
}

#[test]
fn the_schema_has_every_key() {
    let schema = schema();
    for (definition, keys, more) in [("relay", RELAY_KEYS, 3), ("header", HEADER_KEYS, 1)] {
        let properties = schema["$defs"][definition]["properties"]
            .as_object()
            .unwrap();
        // `other`, and of relays `file` and `timestamp`.
        assert_eq!(properties.len(), keys.len() + more);
        for KeyInfo { name, meaning, .. } in keys {
            assert_eq!(properties[*name]["description"], *meaning, "{name}");
        }
    }
}

#[test]
fn what_is_written_agrees_with_the_schema() {
    let document = Document::parse(FILE);
    let other = Document::parse(b"1\nbw=5 node_id=$ABABABABABABABABABABABABABABABABABABABAB\n");
    let header = serde_json::to_value(HeaderFields::new(&document)).unwrap();
    assert_eq!(header["software"], json!({"invalid": "sb\\xffws"}));
    assert_eq!(header["mu"], json!({"invalid": "None"}));
    check("header", &header);
    for relay in document.relays() {
        check(
            "relay",
            &serde_json::to_value(RelayFields::new(relay)).unwrap(),
        );
    }
    let mut rows = Vec::new();
    write_json_lines_of("archive:a", &document, &mut rows).unwrap();
    for row in rows
        .split(|&byte| byte == b'\n')
        .filter(|row| !row.is_empty())
    {
        let row: Value = serde_json::from_slice(row).unwrap();
        assert_eq!(
            (&row["file"], &row["timestamp"]),
            (&json!("archive:a"), &json!(1_700_000_000))
        );
        check("relay", &row);
    }
    let now = UnixTime::new(1_800_000_000);
    for report in [
        spec(&document, None),
        lint(&document, LintContext::at(now)),
        TorJudge::new(now).judge(FILE).report(&document),
    ] {
        assert!(report.count(Severity::Note) < report.counts().map(|(_, count)| count).sum());
        check(
            "report",
            &serde_json::from_str(&report.to_json().unwrap()).unwrap(),
        );
    }
    for now in [1_700_000_000, 1_800_000_000] {
        let judgement = TorJudge::new(UnixTime::new(now)).judge(FILE);
        assert!(!judgement.warnings().is_empty());
        check("judgement", &serde_json::to_value(judgement).unwrap());
    }
    for (before, after) in [(&document, &other), (&other, &document)] {
        let diff = Diff::of_all_keys(before, after);
        check("diff", &serde_json::to_value(diff).unwrap());
        let comparison = NetworkComparison::between(before, after);
        check("comparison", &serde_json::to_value(comparison).unwrap());
    }
}

#[test]
fn the_schema_refuses_what_is_not_written() {
    let validator = jsonschema::draft202012::new(&schema()).unwrap();
    assert!(validator.is_valid(&json!({"bw": 5, "nick": null, "rtt": {"invalid": "x"}})));
    for bad in [
        json!({"bw": "5"}),
        json!({"bw": -5}),
        json!({"unheard_of": 5}),
        json!({"node_id": "$AB"}),
        json!([]),
    ] {
        assert!(!validator.is_valid(&bad), "{bad}");
    }
}

#[test]
fn codes_and_kinds_have_the_form_that_the_schema_says() {
    let kinds = TorWarningKind::ALL
        .iter()
        .map(|kind| json!({"line": 1, "kind": kind}));
    let codes = Code::ALL.iter().map(|code| json!(code));
    let (code, kind) = {
        let schema = schema();
        let defs = &schema["$defs"];
        (
            defs["diagnostic"]["properties"]["code"].clone(),
            defs["judgement"]["properties"]["warnings"]["items"].clone(),
        )
    };
    let (code, kind) = (
        jsonschema::draft202012::new(&code).unwrap(),
        jsonschema::draft202012::new(&kind).unwrap(),
    );
    assert!(codes.into_iter().all(|value| code.is_valid(&value)));
    assert!(kinds.into_iter().all(|value| kind.is_valid(&value)));
}
