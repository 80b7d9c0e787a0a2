//! Other readers on what we write. With `BWSCAN_REQUIRE_PEERS=1` in the
//! environment their absence is a failure, else it is told.

use std::process::Command;

use bw_file::{
    BytesPerSecond, FileBuilder, Fingerprint, KilobytesPerSecond, RelayBuilder, UnixTime,
};

fn file() -> Vec<u8> {
    let mut builder = FileBuilder::new(UnixTime::new(1_700_000_000));
    builder
        .software("bwscan")
        .software_version("0.1.0")
        .number_eligible_relays(20);
    for number in 1..=20 {
        let mut relay = RelayBuilder::new(
            Fingerprint::from_bytes([number; 20]),
            KilobytesPerSecond::new(u64::from(number) * 1000),
        );
        relay.nick("Example").bw_mean(BytesPerSecond::new(5));
        builder.push_relay(relay);
    }
    builder.build().unwrap()
}

/// Runs a Python script with the path of our file; none if `module` is not
/// installed.
fn python(module: &str, script: &str) -> Option<String> {
    let python = "/usr/bin/python3";
    let found = Command::new(python)
        .args(["-c", &format!("import {module}")])
        .output()
        .is_ok_and(|output| output.status.success());
    if !found {
        assert!(
            std::env::var_os("BWSCAN_REQUIRE_PEERS").is_none(),
            "{module} is not installed"
        );
        println!("SKIPPED: {module} is not installed");
        return None;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("v3bw");
    std::fs::write(&path, file()).unwrap();
    let output = Command::new(python)
        .args(["-c", script])
        .arg(&path)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Some(String::from_utf8(output.stdout).unwrap())
}

fn expected() -> String {
    (1..=20_u8)
        .map(|number| {
            let fingerprint = Fingerprint::from_bytes([number; 20]);
            format!("{fingerprint} {}\n", u32::from(number) * 1000)
        })
        .collect()
}

#[test]
fn stem_reads_what_we_write() {
    let script = "
import sys, stem.descriptor
for f in stem.descriptor.parse_file(sys.argv[1], 'bandwidth-file 1.0', validate=True):
    assert f.software == 'bwscan' and str(f.version) == '1.9.0', f.header
    for fingerprint, values in f.measurements.items():
        print(fingerprint, values['bw'])
";
    if let Some(output) = python("stem.descriptor", script) {
        assert_eq!(output, expected());
    }
}

#[test]
fn sbws_reads_what_we_write() {
    let script = "
import sys
from sbws.lib.v3bwfile import V3BWFile
f = V3BWFile.from_v1_fpath(sys.argv[1])
for line in f.bw_lines:
    print(line.node_id.lstrip('$'), line.bw)
";
    if let Some(output) = python("sbws.lib.v3bwfile", script) {
        assert_eq!(output, expected());
    }
}
