#!/bin/sh
# Makes packages of a binary that was built: man pages and completions in
# target/package, and from them a Debian package or a tarball with checksums.
# Usage: scripts/package.sh deb|dist [PROFILE]
#   deb      target/debian/bwscan_VERSION_ARCHITECTURE.deb; needs cargo-deb
#   dist     target/dist/bwscan-VERSION-TRIPLE.tar.xz, with SHA256SUMS
#   PROFILE  the profile that it was built with [default: release]
set -eu
cd "$(dirname "$0")/.."
what=${1:-}
profile=${2:-release}
case $profile in dev) folder=debug ;; *) folder=$profile ;; esac
binary=target/$folder/bwscan
[ -x "$binary" ] || { echo "package: there is no $binary" >&2; exit 2; }
version=$("$binary" --version | cut -d ' ' -f 2)

made=target/package
rm -rf "$made"
mkdir -p "$made/completions" "$made/doc"
"$binary" man "$made/man"
for shell in bash zsh fish; do
    "$binary" completions $shell > "$made/completions/bwscan.$shell"
done
cp docs/operations.md "$made/doc/operations.md"
# Policy: long texts are compressed, the same bytes each time.
gzip -9n -c CHANGELOG.md > "$made/doc/changelog.gz"

case $what in
    deb)
        head -n 1 packaging/debian/changelog | grep -q "^bwscan ($version-" || {
            echo "package: packaging/debian/changelog does not begin with $version" >&2
            exit 2
        }
        rm -f target/debian/bwscan_*.deb
        cargo deb --locked --no-build --profile "$profile" -p bw-cli
        ;;
    dist)
        triple=$(rustc -vV | sed -n 's/^host: //p')
        name=bwscan-$version-$triple
        rm -rf target/dist
        mkdir -p "target/dist/$name"
        strip -o "target/dist/$name/bwscan" "$binary"
        cp -R "$made/man" "$made/completions" README.md CHANGELOG.md LICENSE-* docs/operations.md \
            packaging "target/dist/$name/"
        rm -r "target/dist/$name/packaging/debian"
        tar --create --directory target/dist --sort=name --owner=0 --group=0 --numeric-owner \
            --mtime="@$(git log -1 --format=%ct)" "$name" | xz -9 > "target/dist/$name.tar.xz"
        (cd target/dist && sha256sum "$name.tar.xz" > SHA256SUMS)
        rm -r "target/dist/$name"
        ls -l target/dist
        ;;
    *) echo "package: give deb or dist" >&2; exit 2 ;;
esac
