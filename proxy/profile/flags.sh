#!/bin/sh
# Prints the compiler's flags of a release build of weft-proxy:
#
#   RUSTFLAGS="$(proxy/profile/flags.sh)" cargo build --release --package weft-proxy
#
# With them the compiler knows how often each branch is taken (`make profile` has counted it): see "How it came
# to that" in docs/performance.md. Where the profile is for other versions, or for another architecture, none
# of its functions would be found, and the flags are those of a build without; with --required other versions
# are an error.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
packed="$here/weft-proxy.profdata.xz"
flags="${RUSTFLAGS:-}"
recorded=$(cat "$here/names")
found=$("$here/names.sh")

# Packed, relocations are 9 KiB, and 412 else, of which all are resident in every pod. The C library that it is
# linked with, and runs with, has to know the form: glibc 2.36 does.
libc=$(getconf GNU_LIBC_VERSION 2>/dev/null || true)
oldest="glibc 2.36"
if [ -n "$libc" ] && [ "$(printf '%s\n%s\n' "$oldest" "$libc" | sort -V | head -n 1)" = "$oldest" ]; then
    flags="$flags -Clink-arg=-Wl,-z,pack-relative-relocs"
fi

if [ "$found" = "$recorded" ]; then
    # Cargo builds anew where a path is another one, not where the file behind it is.
    name="weft-proxy-$(sha256sum "$packed" | cut -c 1-12).profdata"
    out="${CARGO_TARGET_DIR:-$here/../../target}/profile"
    mkdir -p "$out"
    out=$(cd "$out" && pwd)
    if [ ! -e "$out/$name" ]; then
        xz --decompress --stdout "$packed" >"$out/$name.part"
        mv "$out/$name.part" "$out/$name"
    fi
    echo "$flags -Cprofile-use=$out/$name"
    exit
fi

one_line() { echo "$1" | paste -s -d ',' - | sed 's/,/, /g'; }
architecture() { echo "$1" | sed -n 2p; }
echo "proxy/profile is for $(one_line "$recorded"), and not for $(one_line "$found"):" \
    "make profile records it anew" >&2
if [ "${1:-}" = --required ] && [ "$(architecture "$found")" = "$(architecture "$recorded")" ]; then
    exit 1
fi
echo "building without it" >&2
echo "$flags"
