"""Reads files with stem and with bw-file in turns, and prints a table of ratios.

usage: against_stem.py [--times N] FILE...

In each of N turns [default: 9] both read the same file; a ratio is of one turn.
The lowest ratios come first.
"""

import os
import statistics
import subprocess
import sys
import time

import stem
from stem.descriptor.bandwidth_file import BandwidthFile

OURS = "cargo bench --quiet --locked -p bw-file --all-features --bench read -- --time".split()


def theirs(path):
    with open(path, "rb") as file:
        content = file.read()
    start = time.perf_counter()
    measurements = BandwidthFile(content).measurements
    seconds = time.perf_counter() - start
    assert len(measurements) > 9000, len(measurements)
    return seconds


def ours(path):
    output = subprocess.run(OURS + [path], check=True, capture_output=True, text=True).stdout
    lines = (line.split("\t") for line in output.splitlines())
    return {name: float(seconds) for name, seconds in lines}


arguments = sys.argv[1:]
turns = 9
if arguments[:1] == ["--times"]:
    turns, arguments = int(arguments[1]), arguments[2:]
rows = []
for path in map(os.path.abspath, arguments):
    size = os.path.getsize(path) / 1e6
    pairs = [(theirs(path), ours(path)) for _ in range(turns)]
    for access in pairs[0][1]:
        ratios = sorted(stem_time / times[access] for stem_time, times in pairs)
        speed = size / statistics.median(times[access] for _, times in pairs)
        stem_speed = size / statistics.median(stem_time for stem_time, _ in pairs)
        rows.append(
            (statistics.median(ratios), ratios, os.path.basename(path), access, speed, stem_speed)
        )

print(f"stem {stem.__version__}, {turns} turns, load {os.getloadavg()[0]:.1f}")
print("| file | access | times stem's speed | lowest, highest | MB/s | stem's |")
print("|---|---|--:|--:|--:|--:|")
for median, ratios, name, access, speed, stem_speed in sorted(rows):
    print(
        f"| {name} | {access} | {median:.0f} | {ratios[0]:.0f}, {ratios[-1]:.0f} "
        f"| {speed:.0f} | {stem_speed:.0f} |"
    )
