#!/bin/sh
# Tries the Debian package of `make deb` on a minimal Debian that debootstrap makes in
# a folder, without a network: lintian, units, install, upgrade, remove, purge.
# Needs root, debootstrap, lintian and 1 GB.
# Usage: scripts/try_package.sh [FOLDER [PACKAGE]]
#   FOLDER    where to make it, kept afterwards [default: a temporary one, removed]
#   PACKAGE   the package [default: the one in target/debian]
set -eu
source=$(cd "$(dirname "$0")/.." && pwd)

# systemd has the tools that look at units; man shows the pages.
packages=adduser,ca-certificates,man-db,systemd
suite=${SUITE:-$(. /etc/os-release && echo "${VERSION_CODENAME:-stable}")}

refuse() { echo "try_package: $*" >&2; exit 2; }
fail() { echo "try_package: FAILED: $*" >&2; exit 1; }
step() { echo "try_package: $*"; }
[ "$(id -u)" = 0 ] || refuse "must run as root: it changes its root directory"
PATH="$PATH:/usr/sbin:/sbin"
for program in debootstrap lintian unshare chroot dpkg-deb; do
    command -v "$program" >/dev/null || refuse "$program is missing; please install it"
done
package=${2:-$(ls "$source"/target/debian/bwscan_*.deb 2>/dev/null | head -n 1)}
[ -f "$package" ] || refuse "there is no package; run \"make deb\""

if [ "${TRY_PACKAGE:-}" != inside ]; then
    if [ $# -eq 0 ]; then
        temporary=$(mktemp -d)
        trap 'rm -rf --one-file-system "$temporary"' EXIT
        set -- "$temporary"
    fi
    mkdir -p "$1"
    [ -e "$1/etc/debian_version" ] ||
        debootstrap --variant=minbase --include="$packages" "$suite" "$1"
    step "lintian"
    # Root is who may debootstrap; lintian asks to be told so.
    lintian --allow-root --fail-on error,warning "$package"
    # Mounts and processes end with the inner script, and nothing reaches a network.
    TRY_PACKAGE=inside unshare --mount --pid --net --fork --kill-child \
        "$source/scripts/try_package.sh" "$1" "$package"
    exit
fi

root=$1
ip link set lo up 2>/dev/null || true
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/tmp"
chmod 1777 "$root/tmp"
in_root() {
    env -i HOME=/root LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
        PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot "$root" "$@"
}
# Everything but what dpkg and programs write at any use.
files() {
    (cd "$root" && find . -xdev \( -path ./proc -o -path ./dev -o -path ./tmp -o -path ./run \
        -o -path ./var/log -o -path ./var/cache -o -path ./var/lib/dpkg \) -prune -o -print | sort)
}
has() { [ -e "$root$1" ] || fail "$1 is not there ($2)"; }
gone() { [ ! -e "$root$1" ] || fail "$1 is still there ($2)"; }
install() { in_root dpkg --force-confdef --force-confold --install "$1" > "$root/tmp/dpkg" 2>&1 || {
    cat "$root/tmp/dpkg"
    fail "dpkg does not install $1"
}; }

# What an earlier run left in a folder that is kept.
in_root dpkg --purge bwscan >/dev/null 2>&1 || true
in_root deluser --quiet --system bwscan >/dev/null 2>&1 || true
files > "$root/tmp/before"

step "install"
cp "$package" "$root/tmp/first.deb"
install /tmp/first.deb
in_root getent passwd bwscan | grep -q ':/var/lib/bwscan:/usr/sbin/nologin$' ||
    fail "the user bwscan is not as it should be"
[ "$(in_root stat -c '%U:%G %a' /var/lib/bwscan)" = "bwscan:bwscan 755" ] ||
    fail "/var/lib/bwscan belongs to somebody else, or has other rights"
in_root dpkg-query --show --showformat='${Conffiles}' bwscan | grep -q /etc/bwscan/bwscan.toml ||
    fail "the configuration is no conffile"
in_root bwscan --version
for unit in bwscan bwscan-server; do
    # deb-systemd-helper says so in an empty system, too.
    [ "$(in_root systemctl is-enabled $unit.service 2>/dev/null)" = disabled ] ||
        fail "$unit.service is enabled without being asked for"
    in_root systemd-analyze verify "/usr/lib/systemd/system/$unit.service" ||
        fail "systemd does not like $unit.service"
    in_root systemd-analyze security --offline=true --threshold=20 --no-pager \
        "/usr/lib/systemd/system/$unit.service" | tail -n 1 ||
        fail "$unit.service is exposed more than 2.0"
    command=$(sed -n 's/^ExecStart=//p' "$root/usr/lib/systemd/system/$unit.service")
    # shellcheck disable=SC2086 # one word per argument
    in_root $command --help > /dev/null || fail "$unit.service: $command does not start"
done
in_root systemctl enable --quiet bwscan.service
for page in $(cd "$root/usr/share/man" && echo man1/bwscan*.gz man5/bwscan*.gz); do
    warnings=$(in_root env MANWIDTH=80 man --warnings=w --local-file "/usr/share/man/$page" 2>&1 >/dev/null)
    [ -z "$warnings" ] || fail "$page: $warnings"
done
in_root bash -c '. /usr/share/bash-completion/completions/bwscan && complete -p bwscan' > /dev/null ||
    fail "the completions of bash do not load"

step "first start, as the service's user"
as_user() { in_root setpriv --reuid=bwscan --regid=bwscan --clear-groups env HOME=/var/lib/bwscan "$@"; }
configuration=/etc/bwscan/bwscan.toml
status=0
as_user bwscan run --config $configuration > "$root/tmp/start" 2>&1 || status=$?
[ $status = 2 ] && grep -q "no destination" "$root/tmp/start" ||
    fail "without a destination the service says: $(cat "$root/tmp/start")"
sed -i 's|^# destination = .*|destination = ["https://bw.example/1GiB"]\nbootstrap_timeout = "3s"|' "$root$configuration"
as_user bwscan doctor --config $configuration > "$root/tmp/doctor" 2>&1 || true
grep -q "/var/lib/bwscan can be written" "$root/tmp/doctor" ||
    fail "doctor: $(cat "$root/tmp/doctor")"
# shellcheck disable=SC2016 # the inner shell's process becomes the service
as_user sh -c 'echo $$ > /tmp/process; exec bwscan run --config "$1"' - $configuration \
    > "$root/tmp/run" 2>&1 &
job=$!
for _ in $(seq 100); do
    [ -e "$root/var/lib/bwscan/results.sqlite" ] && break
    sleep 0.1
done
has /var/lib/bwscan/results.sqlite "the service ran"
kill -TERM "$(cat "$root/tmp/process")" || fail "the service ended: $(cat "$root/tmp/run")"
wait $job || fail "SIGTERM ends the service with $?: $(cat "$root/tmp/run")"

step "upgrade, with a configuration that both have changed"
dpkg-deb --raw-extract "$package" "$root/tmp/second"
sed -i 's/^Version: .*/&+later1/' "$root/tmp/second/DEBIAN/control"
echo "# A later version." >> "$root/tmp/second/etc/bwscan/bwscan.toml"
dpkg-deb --root-owner-group -Zgzip --build "$root/tmp/second" "$root/tmp/second.deb" >/dev/null
install /tmp/second.deb
in_root dpkg-query --show bwscan | grep -q '+later1$' || fail "the later version is not installed"
grep -q '^destination = ' "$root$configuration" || fail "the operator's configuration is lost"
has /etc/bwscan/bwscan.toml.dpkg-dist "the later version's configuration"
has /var/lib/bwscan/results.sqlite "upgrade"
[ "$(in_root systemctl is-enabled bwscan.service)" = enabled ] || fail "an upgrade disables the service"

step "remove"
in_root dpkg --remove bwscan >/dev/null
gone /usr/bin/bwscan remove
has "$configuration" remove
has /var/lib/bwscan/results.sqlite remove

step "back to the first version, and purge"
install /tmp/first.deb
[ "$(in_root systemctl is-enabled bwscan.service)" = enabled ] || fail "a removal forgets the service"
echo secret > "$root/etc/bwscan/key"
in_root dpkg --purge bwscan >/dev/null
has /etc/bwscan/key "purge must not remove what others wrote"
rm -r "$root/etc/bwscan"
gone /var/lib/bwscan purge
install /tmp/first.deb
in_root dpkg --purge bwscan >/dev/null
gone /etc/bwscan purge
in_root getent passwd bwscan >/dev/null || fail "purge removes the user"
files > "$root/tmp/after"
# The files of the users' database, with their backups, are all that may differ.
left=$(diff "$root/tmp/before" "$root/tmp/after" |
    grep -v -E '^[<>] \./etc/(passwd|group|shadow|gshadow|subuid|subgid)-?$' | grep '^[<>]' || true)
[ -z "$left" ] || fail "purge leaves or takes: $left"
echo "try_package: passed: $(basename "$package")"
