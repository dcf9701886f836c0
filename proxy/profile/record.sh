#!/usr/bin/env bash
# Counts how often each branch of weft-proxy is taken, for builds to come: `make profile`.
#
# A sidecar that counts runs under the traffic of `make soak`, which is none of what `make bench` measures.
# To be done before a release, once its version stands in Cargo.toml, with the compiler that images are built
# with. What is changed later, or comes of another version of a dependency, is compiled as if there were no
# profile. (What is in one: xz --decompress, then llvm-profdata show --topn=20.)
#
#   record.sh PROGRAMS OUT   PROGRAMS: where weft-init and the soak's programs were built
set -euo pipefail

programs=$(cd "$1" && pwd)
out="$2"
here=$(cd "$(dirname "$0")" && pwd)
minutes="${MINUTES:-2}"
# The program has this path in it, and writes there as a sidecar's user, out of the soak's namespaces, which
# have a /tmp of their own.
counts=/var/tmp/weft-profile

host=$(rustc -vV | sed -n 's/^host: //p')
merge="$(rustc --print sysroot)/lib/rustlib/$host/bin/llvm-profdata"
if [ ! -x "$merge" ] && ! rustup component add llvm-tools; then
    echo "llvm-profdata of the compiler's own version is needed: rustup component add llvm-tools" >&2
    exit 1
fi

rm -rf "$counts"
mkdir -m 1777 "$counts"
trap 'rm -rf "$counts"' EXIT

echo "building a sidecar that counts (some minutes the first time) …"
RUSTFLAGS="-Cprofile-generate=$counts" cargo build --release --locked --package weft-proxy --target-dir "$out/build"
# Build scripts and macros have counted too.
rm -f "$counts"/*
mkdir -p "$out/programs"
for program in weft-init weft-soak weft-client weft-echo; do
    ln -f "$programs/$program" "$out/programs/$program"
done
ln -f "$out/build/release/weft-proxy" "$out/programs/weft-proxy"

WEFT_BIN_DIR="$out/programs" "$programs/weft-soak" --minutes "$minutes" --out "$out/soak"

"$merge" merge --output "$out/weft-proxy.profdata" "$counts"/*.profraw
xz -9 --stdout "$out/weft-proxy.profdata" >"$here/weft-proxy.profdata.xz"
"$here/names.sh" >"$here/names"
echo "proxy/profile/weft-proxy.profdata.xz: $(du -h "$here/weft-proxy.profdata.xz" | cut -f1)"
