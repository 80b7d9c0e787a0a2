#!/usr/bin/env python3
"""Checks the layout of the crates against what cargo resolves.

That records, aggregation and simulation compile no C, and that the drawing in
docs/architecture.md has the arrows that there are; arrows that follow from others
are left out.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

WITHOUT_C = ["bw-results", "bw-aggregate", "bw-sim", "bw-loop"]
C = {"libsqlite3-sys", "zstd-sys", "lzma-sys", "liblzma-sys", "ring", "aws-lc-sys", "cc", "cmake"}
PAGE = Path("docs/architecture.md")


def tree(crate):
    """The names of all that is compiled into this crate or runs to build it."""
    command = ["cargo", "tree", "--locked", "-q", "-p", crate, "-e", "normal,build"]
    command += ["--prefix", "none", "--format", "{p}"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return {line.split()[0] for line in lines if line}


def arrows():
    """From crate to crate, by cargo; without those that follow from others."""
    command = ["cargo", "metadata", "--locked", "--no-deps", "--format-version", "1"]
    metadata = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    needs = {
        package["name"]: {
            dependency["name"]
            for dependency in package["dependencies"]
            if dependency["kind"] is None and dependency["name"].startswith("bw-")
        }
        for package in metadata["packages"]
        if package["name"].startswith("bw-")
    }

    def below(crate):
        return needs[crate].union(*(below(needed) for needed in needs[crate]))

    return {
        (crate, needed)
        for crate in needs
        for needed in needs[crate]
        if not any(needed in below(other) for other in needs[crate])
    }


problems = []
for crate in WITHOUT_C:
    problems += [f"{crate} compiles C: {name}" for name in sorted(tree(crate) & C)]
drawing = re.search(r"```mermaid\n(.*?)```", PAGE.read_text(), re.DOTALL)
drawn = set(re.findall(r"(bw-\w+) --> (bw-\w+)", drawing.group(1) if drawing else ""))
there = arrows()
problems += [f"{PAGE}: no arrow from {a} to {b}" for a, b in sorted(there - drawn)]
problems += [f"{PAGE}: an arrow too many, from {a} to {b}" for a, b in sorted(drawn - there)]
print("\n".join(problems), file=sys.stderr)
sys.exit(1 if problems else 0)
