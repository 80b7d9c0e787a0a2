#!/bin/sh
# Licences, sources and banned crates of all dependencies; advisories too if their
# database can be fetched, which needs the internet.
set -eu
cd "$(dirname "$0")/.."
if ! cargo deny --version >/dev/null 2>&1; then
    echo "deny: cargo-deny is not installed, so licences and sources were not checked;" \
        "scripts/setup.sh deny installs it"
    exit
fi
cargo deny --locked check --hide-inclusion-graph bans licenses sources
if cargo deny --locked fetch db >/dev/null 2>&1; then
    cargo deny --locked check --disable-fetch --hide-inclusion-graph advisories
else
    echo "deny: the database of advisories cannot be fetched here; they were not checked"
fi
