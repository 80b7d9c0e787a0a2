#!/bin/sh
# Installs what the demo and the tests need and the machine lacks: tor with
# authority support and tor-gencert (one Debian package), and cargo-nextest
# for the tests. cargo-deny takes many minutes to build and comes only with `deny`.
# Usage: scripts/setup.sh [demo|test|ci|bench|browser|chaos|deny]
set -eu
want=${1:-demo}

have() { PATH="$PATH:/usr/sbin:/usr/local/sbin" command -v "$1" >/dev/null 2>&1; }

install_packages() {
    if ! have apt-get; then
        echo "setup: please install with your package manager: $*" >&2
        exit 2
    fi
    if [ "$(id -u)" = 0 ]; then
        run=
    elif have sudo && sudo -n true 2>/dev/null; then
        run=sudo
    else
        echo "setup: missing packages; please run: sudo apt-get install -y $*" >&2
        exit 2
    fi
    echo "setup: installing $*"
    # A package that starts a daemon must not do so: we run our own tors.
    $run apt-get update -q || true
    $run env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
        apt-get install -y -q --no-install-recommends "$@"
}

have cargo || {
    echo "setup: no Rust toolchain; install rustup (apt-get install rustup) first" >&2
    exit 2
}
packages=
if [ "$want" != deny ] && { ! have tor || ! have tor-gencert; }; then packages="$packages tor"; fi
if ! have cc; then packages="$packages build-essential"; fi
if [ "$want" = browser ]; then
    have chromium || packages="$packages chromium"
    have npm || packages="$packages npm"
    have tmux || packages="$packages tmux"
fi
if [ "$want" = chaos ]; then
    for package in faketime prometheus; do
        dpkg -s "$package" >/dev/null 2>&1 || packages="$packages $package"
    done
fi
if [ "$want" = bench ]; then
    for package in lighttpd lighttpd-mod-openssl caddy wrk openssl; do
        dpkg -s "$package" >/dev/null 2>&1 || packages="$packages $package"
    done
fi
if [ "$want" = ci ] || [ "$want" = bench ]; then
    for package in python3-stem sbws faketime; do
        dpkg -s "$package" >/dev/null 2>&1 || packages="$packages $package"
    done
fi
# shellcheck disable=SC2086 # one word per package
[ -z "$packages" ] || install_packages $packages

install_tool() {
    if ! cargo "$1" --version >/dev/null 2>&1; then
        echo "setup: installing cargo-$1"
        # Without optimisation, which takes most of the time and helps nobody here.
        cargo install --locked --debug "cargo-$1"
    fi
}
case $want in
    test | ci) install_tool nextest ;;
    deny) install_tool deny ;;
esac
