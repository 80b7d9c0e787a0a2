"""Reads files with stem and prints its throughput beside ours.

usage: against_stem.py FILE...

Ours comes from criterion's last run, in $CARGO_TARGET_DIR/criterion (or
target/criterion); run `cargo bench -p bw-file --all-features` first.
"""

import json
import os
import sys
import time

import stem
from stem.descriptor.bandwidth_file import BandwidthFile

GROUPS = {"torflow.v3bw": "torflow 9200", "newest.v3bw": "1.9.0 10000"}


def ours(group, bench):
    target = os.environ.get("CARGO_TARGET_DIR", "target")
    path = os.path.join(target, "criterion", group, bench, "new", "estimates.json")
    with open(path) as file:
        return json.load(file)["median"]["point_estimate"] / 1e9


print("All keys and values of every relay line:")
for path in sys.argv[1:]:
    with open(path, "rb") as file:
        content = file.read()
    times = []
    for _ in range(5):
        start = time.perf_counter()
        measurements = BandwidthFile(content).measurements
        times.append(time.perf_counter() - start)
    theirs = sorted(times)[2]
    assert len(measurements) > 9000, len(measurements)
    name = os.path.basename(path)
    size = len(content) / 1e6
    print(f"{name}, {size:.1f} MB: stem {stem.__version__} {size / theirs:.1f} MB/s")
    for bench in ["all pairs, borrowed", "all fields, typed"]:
        mine = ours(GROUPS[name], bench)
        print(f"  bw-file, {bench}: {size / mine:.0f} MB/s, ratio {theirs / mine:.0f}")
