#!/bin/sh
# Checks for what a make target needs: `build`, `lab` (network namespaces), `interop` (servers of
# others), `fuzz` (libFuzzer is C++), `bench` (the peers that Weft is measured beside), `guard` (what
# counts instructions), `git`, `pip` (for the Go toolchain, which comes as a Python package),
# `promtool`, `prometheus`.
# Root gets what is missing from Debian's packages; others get the command to run.
set -eu

cd "$(dirname "$0")/.."
PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
rust_version=1.92
packages=""

say() { printf '%s\n' "$*" >&2; }

# need COMMAND PACKAGE: remembers the package when the command is missing.
need() {
    command -v "$1" >/dev/null 2>&1 || packages="$packages $2"
}

# Debian's Python has pip as a package of its own.
need_pip() {
    python3 -m pip --version >/dev/null 2>&1 || packages="$packages python3-pip"
}

# at_least WANTED FOUND: whether the version FOUND is WANTED or newer.
at_least() {
    [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ]
}

install_packages() {
    [ -n "$packages" ] || return 0
    if ! command -v apt-get >/dev/null 2>&1; then
        say "missing, by the names of Debian's packages:$packages"
        exit 1
    elif [ "$(id -u)" != 0 ]; then
        say "missing; please run:"
        say "    sudo apt-get update && sudo apt-get install --no-install-recommends$packages"
        exit 1
    fi
    say "installing$packages"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    # shellcheck disable=SC2086  # a list of words
    apt-get install -y -qq --no-install-recommends $packages >/dev/null
    packages=""
}

# without_services COMMAND: installs without starting the services that Debian's packages bring, as
# its Policy provides for it (policy-rc.d): the ports may be somebody else's.
without_services() {
    policy=/usr/sbin/policy-rc.d
    if [ -z "$packages" ] || [ "$(id -u)" != 0 ] || [ -e "$policy" ]; then
        "$@"
        return
    fi
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    "$@"
    rm -f "$policy"
    trap - EXIT
}

check_cargo() {
    found=$(cargo --version 2>/dev/null | cut -d ' ' -f 2 || true)
    if [ -n "$found" ] && at_least "$rust_version" "$found"; then
        return
    fi
    say "Rust $rust_version or newer is needed${found:+; cargo here is $found}."
    if command -v rustup >/dev/null 2>&1; then
        say "please run:    rustup default stable && rustup update stable"
    elif apt-cache show rustup >/dev/null 2>&1; then
        say "please run:    sudo apt-get install rustup && rustup default stable"
    else
        say "Debian 12 has no package with it: install it as https://rustup.rs says, then open a"
        say "new shell (or:  . ~/.cargo/env) and run this again."
    fi
    exit 1
}

# fetch_prometheus PROGRAM: promtool or prometheus, out of Debian's package and without the service
# that installing it would start.
fetch_prometheus() {
    command -v "$1" >/dev/null 2>&1 && return
    tools="${CARGO_TARGET_DIR:-target}/tools"
    [ -x "$tools/$1" ] && return
    command -v apt-get >/dev/null 2>&1 || { say "missing: $1, of Prometheus"; exit 1; }
    say "fetching $1 out of Debian's package prometheus"
    mkdir -p "$tools/unpacked"
    tools=$(cd "$tools" && pwd)
    [ "$(id -u)" != 0 ] || [ -n "$(apt-cache policy prometheus 2>/dev/null)" ] || apt-get update -qq
    if ! (cd "$tools/unpacked" && apt-get download -qq prometheus && dpkg -x prometheus_*.deb .); then
        say "please run:    sudo apt-get update   (then this again)"
        exit 1
    fi
    mv "$tools/unpacked/usr/bin/prometheus" "$tools/unpacked/usr/bin/promtool" "$tools"
    rm -r "$tools/unpacked"
}

for topic in "$@"; do
    case "$topic" in
    build)
        check_cargo
        need cc "gcc libc6-dev"
        need xz xz-utils
        install_packages
        ;;
    lab)
        check_cargo
        need cc "gcc libc6-dev"
        need ip iproute2
        need iptables-restore iptables
        need ip6tables-restore iptables
        need unshare util-linux
        need nsenter util-linux
        need setpriv util-linux
        need chrt util-linux
        need curl curl
        need bash bash
        [ "$(id -u)" = 0 ] || need newuidmap uidmap
        install_packages
        curl_version=$(curl --version | head -n 1 | cut -d ' ' -f 2)
        at_least 7.84 "$curl_version" || { say "curl 7.84 or newer is needed"; exit 1; }
        ;;
    interop)
        need nginx nginx-light
        need apache2 apache2-bin
        need haproxy haproxy
        need node nodejs
        /usr/bin/python3 -c "import aiohttp" 2>/dev/null || packages="$packages python3-aiohttp"
        need_pip
        without_services install_packages
        ;;
    fuzz)
        check_cargo
        need cc "gcc libc6-dev"
        # libfuzzer-sys brings libFuzzer's source.
        need c++ g++
        install_packages
        ;;
    bench)
        check_cargo
        need cc "gcc libc6-dev"
        need ip iproute2
        need iptables-restore iptables
        need unshare util-linux
        need setpriv util-linux
        need taskset util-linux
        need haproxy haproxy
        need nginx nginx-light
        need wrk wrk
        need h2load nghttp2-client
        need_pip
        [ "$(id -u)" = 0 ] || need newuidmap uidmap
        without_services install_packages
        ;;
    guard)
        check_cargo
        need cc "gcc libc6-dev"
        # Its own start needs the symbols of the C library's loader.
        need valgrind "valgrind libc6-dbg"
        install_packages
        ;;
    git)
        need git "git ca-certificates"
        install_packages
        ;;
    pip)
        need_pip
        install_packages
        ;;
    promtool | prometheus) fetch_prometheus "$topic" ;;
    *)
        say "usage: $0 [build] [lab] [interop] [fuzz] [bench] [guard] [git] [pip] [promtool] [prometheus]"
        exit 2
        ;;
    esac
done
