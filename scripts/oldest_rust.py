#!/usr/bin/env python3
"""Checks bw-file with the oldest Rust that it declares.

First that its dependencies declare no newer one; then, with that Rust, that
everything builds. rustup installs it; where it cannot, this is told, and the
second half skipped.
"""

import json
import os
import subprocess
import sys
from pathlib import Path


def metadata(*arguments):
    command = ["cargo", "metadata", "--locked", "--format-version", "1", *arguments]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


def version(text):
    return tuple(int(part) for part in text.split("."))


graph = metadata("--all-features")
packages = {package["id"]: package for package in graph["packages"]}
nodes = {node["id"]: node for node in graph["resolve"]["nodes"]}
ours = next(p["id"] for p in packages.values() if p["name"] == "bw-file")
oldest = packages[ours]["rust_version"]

needed, todo = set(), [ours]
while todo:
    node = nodes[todo.pop()]
    for dependency in node["deps"]:
        normal = any(kind["kind"] != "dev" for kind in dependency["dep_kinds"])
        if normal and dependency["pkg"] not in needed:
            needed.add(dependency["pkg"])
            todo.append(dependency["pkg"])
newer = [
    f"{p['name']} {p['version']} needs {p['rust_version']}"
    for p in (packages[identifier] for identifier in needed)
    if p["rust_version"] and version(p["rust_version"]) > version(oldest)
]
if newer:
    sys.exit(f"bw-file is for Rust {oldest}, but " + ", ".join(sorted(newer)))
print(f"none of {len(needed)} dependencies of bw-file declares a Rust newer than {oldest}")

toolchain = f"{oldest}.0" if oldest.count(".") == 1 else oldest
cargo = ["cargo", f"+{toolchain}"]
if subprocess.run([*cargo, "--version"], capture_output=True).returncode != 0:
    install = ["rustup", "toolchain", "install", toolchain, "--profile", "minimal"]
    try:
        subprocess.run(install, check=True)
    except (OSError, subprocess.CalledProcessError):
        print(f"SKIPPED: Rust {toolchain} is not installed, and rustup cannot install it")
        sys.exit(0)
target = Path(os.environ.get("CARGO_TARGET_DIR", "target")) / "oldest-rust"
for features in [["--no-default-features"], ["--all-features"]]:
    subprocess.run(
        [*cargo, "check", "--locked", "-q", "-p", "bw-file", *features],
        env={**os.environ, "CARGO_TARGET_DIR": str(target)},
        check=True,
    )
print(f"bw-file builds with Rust {toolchain}")
