#!/usr/bin/env python3
"""Fails if bw-file's public interface names types of other crates.

The interface is read from rustdoc's JSON, which is not stable yet: hence
RUSTC_BOOTSTRAP, in a target directory of its own. Traits and types of the
standard library are no concern; serde's traits are documented (README,
"Features").
"""

import json
import os
import subprocess
import sys
from pathlib import Path

ALLOWED = {"bw_file", "std", "core", "alloc", "serde", "serde_core"}

target = Path(os.environ.get("CARGO_TARGET_DIR", "target")) / "interface"
subprocess.run(
    ["cargo", "rustdoc", "--locked", "-q", "-p", "bw-file", "--lib", "--all-features"]
    + ["--", "-Z", "unstable-options", "--output-format", "json"],
    env={**os.environ, "RUSTC_BOOTSTRAP": "1", "CARGO_TARGET_DIR": str(target)},
    check=True,
)
crate = json.loads((target / "doc" / "bw_file.json").read_text())


def named(part):
    """The identifiers of all types and traits that are named in `part`."""
    if isinstance(part, dict):
        if "path" in part and "id" in part:
            yield part["id"]
        part = part.values()
    elif not isinstance(part, list):
        return
    for inner in part:
        yield from named(inner)


def owner(identifier):
    path = crate["paths"].get(str(identifier))
    if path is None or path["crate_id"] == 0:
        return "bw_file", ""
    name = crate["external_crates"][str(path["crate_id"])]["name"]
    return name, "::".join(path["path"])


seen, foreign = set(), set()
for item in crate["index"].values():
    implementation = item["inner"].get("impl", {})
    generated = implementation.get("blanket_impl") or implementation.get("is_synthetic")
    if item["crate_id"] != 0 or generated:
        continue
    for identifier in named(item["inner"]):
        name, path = owner(identifier)
        seen.add(name)
        if name not in ALLOWED:
            foreign.add(f"{path}, in {item['name'] or 'an implementation'}")

assert {"bw_file", "core", "serde_core"} <= seen, f"rustdoc's JSON is not understood: {seen}"
for line in sorted(foreign):
    print(f"bw-file's public interface has {line}", file=sys.stderr)
sys.exit(1 if foreign else 0)
