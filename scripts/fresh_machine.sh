#!/bin/sh
# Runs `make demo` and `make test` on a fresh machine: a minimal Debian that
# debootstrap makes in a folder, with this repository's last commit and the Rust
# toolchain of this machine. Shows that both find or install all that they need.
# The way to the package registries is this machine's: its mirror, its proxies and
# the certificates that its administrator trusts. Needs root, debootstrap and 15 GB.
# Usage: scripts/fresh_machine.sh [FOLDER [TARGET...]]
#   FOLDER   where to make it, kept afterwards [default: a temporary one, removed]
#   TARGET   what to make in it [default: demo test]
set -eu
source=$(cd "$(dirname "$0")/.." && pwd)

packages=ca-certificates,curl,git,make,gcc,libc6-dev
suite=${SUITE:-$(. /etc/os-release && echo "${VERSION_CODENAME:-stable}")}

refuse() { echo "fresh_machine: $*" >&2; exit 2; }
[ "$(id -u)" = 0 ] || refuse "must run as root: it changes its root directory"
PATH="$PATH:/usr/sbin:/sbin"
for program in debootstrap unshare chroot git rustc; do
    command -v "$program" >/dev/null || refuse "$program is missing; please install it"
done

# In namespaces of its own: mounts and processes end with the inner script, so
# that nothing is mounted any more when a temporary folder is removed.
if [ "${FRESH_MACHINE:-}" != inside ]; then
    if [ $# -eq 0 ]; then
        temporary=$(mktemp -d)
        trap 'rm -rf --one-file-system "$temporary"' EXIT
        set -- "$temporary"
    fi
    FRESH_MACHINE=inside unshare --mount --pid --fork --kill-child \
        "$source/scripts/fresh_machine.sh" "$@"
    exit
fi

mkdir -p "$1"
root=$(cd "$1" && pwd)
shift
[ $# -gt 0 ] || set -- demo test

mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' \
    "Codename: $suite" 'Origin: Debian' 'Component: main' 2>/dev/null | head -n 1)
[ -e "$root/etc/debian_version" ] ||
    debootstrap --variant=minbase --include="$packages" "$suite" "$root" ${mirror:+"$mirror"}
mkdir -p "$root/opt/rust" "$root/root/.cargo"

# What leads to the package registries.
cp /etc/resolv.conf "$root/etc/resolv.conf"
apt-config dump | grep -E '^Acquire::(https?|Check-|Retries)' >"$root/etc/apt/apt.conf.d/90host" ||
    true
cargo_config=${CARGO_HOME:-$HOME/.cargo}/config.toml
[ ! -f "$cargo_config" ] || cp "$cargo_config" "$root/root/.cargo/config.toml"
proxies=$(env | grep -iE '^((https?|all|no)_proxy|CARGO_(HTTP_PROXY|NET_[A-Z_]+|SOURCE_[A-Z_]+))=' |
    tr -d ' ') || true
for certificate in /usr/local/share/ca-certificates/*.crt; do
    [ ! -f "$certificate" ] || cp "$certificate" "$root/usr/local/share/ca-certificates/"
done
chroot "$root" /usr/sbin/update-ca-certificates

mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount --bind "$(rustc --print sysroot)" "$root/opt/rust"
mount -o remount,bind,ro "$root/opt/rust"

# A folder of an earlier run gets the commit of now; what was built stays.
[ -d "$root/root/bwscan" ] || git init --quiet "$root/root/bwscan"
git -C "$root/root/bwscan" fetch --quiet "$source" HEAD
git -C "$root/root/bwscan" checkout --quiet --force --detach FETCH_HEAD
for target in "$@"; do
    echo "fresh_machine: make $target"
    # shellcheck disable=SC2086 # one word per variable
    env -i $proxies HOME=/root TERM="${TERM:-dumb}" LANG=C.UTF-8 \
        PATH=/opt/rust/bin:/root/.cargo/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        chroot "$root" make -C /root/bwscan "$target"
done
echo "fresh_machine: passed: make $*"
