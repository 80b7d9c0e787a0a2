#!/bin/sh
# Runs `make demo` and `make test` on a fresh machine: a minimal Debian that
# debootstrap makes in a folder, with this repository's last commit and the Rust
# toolchain of this machine. Shows that both find or install all that they need.
# Needs root, debootstrap and 15 GB.
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

# In namespaces of its own: mounts and processes end with this script.
if [ "${FRESH_MACHINE:-}" != inside ]; then
    export FRESH_MACHINE=inside
    exec unshare --mount --pid --fork --kill-child "$source/scripts/fresh_machine.sh" "$@"
fi

if [ $# -gt 0 ]; then
    root=$1
    shift
    mkdir -p "$root"
else
    root=$(mktemp -d)
    temporary=$root
fi
root=$(cd "$root" && pwd)
# Never through the mounts into the toolchain of this machine.
trap '[ -z "${temporary:-}" ] || rm -rf --one-file-system "$temporary"' EXIT
[ $# -gt 0 ] || set -- demo test

[ -e "$root/etc/debian_version" ] ||
    debootstrap --variant=minbase --include="$packages" "$suite" "$root"
cp /etc/resolv.conf "$root/etc/resolv.conf"
mkdir -p "$root/opt/rust"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount --bind "$(rustc --print sysroot)" "$root/opt/rust"
mount -o remount,bind,ro "$root/opt/rust"

if [ ! -d "$root/root/bwscan" ]; then
    git clone --quiet --no-hardlinks "$source" "$root/root/bwscan"
fi
for target in "$@"; do
    echo "fresh_machine: make $target"
    env -i HOME=/root TERM="${TERM:-dumb}" LANG=C.UTF-8 \
        PATH=/opt/rust/bin:/root/.cargo/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        chroot "$root" make -C /root/bwscan "$target"
done
echo "fresh_machine: passed: make $*"
