#!/usr/bin/env python3
"""Time, memory and sizes of `bwscan report` and `bwscan web` over a month of a large network.

Makes a store of 8,000 relays and 28 days, and a bandwidth file of each day. Writes its report, asks
the web server for the overview with a hundred requests at once, and searches in Chromium. Each
figure is printed beside what it is to be; only a program that fails ends this with an error.

usage: scripts/bench_report.py --target DIR [--relays N] [--days N] [--keep DIR]

DIR has bwscan and the examples large_store and load, as `make bench-report` builds them.
"""

import argparse
import datetime
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BROWSER = Path(__file__).parent / "browser"
# Bytes and seconds that pages and answers may take.
RELAY, FIRST, SECONDS, MEMORY, PAGES, SEARCH, ANSWER = 60_000, 100_000, 10, 300e6, 300, 50, 20

# When the newest consensus of the example large_store is valid.
NOW = "2026-09-21T15:00:00"


def say(what, value, unit, limit, at_least=False):
    kept = value >= limit if at_least else value <= limit
    word = "at least" if at_least else "at most"
    print(f"{what:32} {value:10.1f} {unit:8} {word} {limit:g}: {'yes' if kept else 'NO'}")


def run(*command):
    return subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True).stdout


def measured(*command):
    """What a program printed, and its seconds and bytes of memory."""
    begin = time.monotonic()
    with subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, text=True) as child:
        text = child.stdout.read()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit(f"{command} ended with {child.returncode}")
    return text, time.monotonic() - begin, usage.ru_maxrss * 1024


def dated_files(bwscan, data, days):
    """The file of today, and the same of the days before, each with some other weights."""
    folder = data / "v3bw"
    run(bwscan, "generate", "--data-dir", data, "--now", NOW)
    newest = max(folder.glob("2*.v3bw"))
    header, *lines = newest.read_text().splitlines(keepends=True)
    written = datetime.datetime.strptime(newest.name, "%Y%m%d_%H%M%S.v3bw")
    for day in range(1, days):
        name = f"{written - datetime.timedelta(days=day):%Y%m%d_%H%M%S}.v3bw"
        change = lambda found: f"bw={int(found[1]) * (90 + (int(found[1]) + day) % 21) // 100 + 1}"
        text = "".join(re.sub(r"\bbw=(\d+)", change, line) for line in lines)
        (folder / name).write_text(f"{int(header) - day * 86_400}\n{text}")


def report(bwscan, data, output):
    text, seconds, memory = measured(
        bwscan, "report", "--data-dir", data, "--now", NOW, "-o", output, "--json"
    )
    facts = json.loads(text)
    print(f"{facts['pages']} files, {facts['bytes'] / 1e6:.0f} MB")
    say("report", seconds, "s", SECONDS)
    say("report, pages", facts["pages"] / seconds, "a second", PAGES, at_least=True)
    say("report, memory", memory / 1e6, "MB", MEMORY / 1e6)
    sizes = sorted(page.stat().st_size for page in (output / "relay").iterdir())
    say("first page", (output / "index.html").stat().st_size / 1e3, "kB", FIRST / 1e3)
    say("largest relay's page", sizes[-1] / 1e3, "kB", RELAY / 1e3)


def web(bwscan, load, data):
    command = [bwscan, "web", "--data-dir", data, "--now", NOW, "--listen", "127.0.0.1:0"]
    with subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, text=True) as server:
        try:
            address = re.search(r"http://([^/]+)/", server.stdout.readline())[1]
            for name, path in [("overview", "/"), ("status as JSON", "/api/status")]:
                found = re.search(r"p99 ([\d.]+) ms", run(load, address, path))
                say(f"web, {name}, p99 of 100 at once", float(found[1]), "ms", ANSWER)
        finally:
            server.terminate()


def search(output):
    for line in run("node", BROWSER / "search_time.mjs", output).splitlines():
        name, median, longest = line.rsplit(" ", 2)
        say(f"search by {name}", float(median), "ms", SEARCH)
        say("… the longest of 20", float(longest), "ms", SEARCH)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--target", type=Path, required=True)
    parser.add_argument("--relays", type=int, default=8000)
    parser.add_argument("--days", type=int, default=28)
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    bwscan = options.target / "bwscan"
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        data = folder / "data"
        data.mkdir(parents=True, exist_ok=True)
        examples = options.target / "examples"
        run(examples / "large_store", data / "results.sqlite", options.relays, options.days)
        dated_files(bwscan, data, options.days)
        print(f"{options.relays} relays, {options.days} days, on {os.cpu_count()} cores")
        report(bwscan, data, folder / "report")
        web(bwscan, examples / "load", data)
        search(folder / "report")


main()
