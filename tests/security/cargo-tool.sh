#!/usr/bin/env bash
# Prints the path of a program of cargo's ecosystem, and builds it first where it is not there:
# cargo-tool.sh NAME VERSION
#
# It lies under .cache/tools by name and version, so nothing else on the machine is used or changed.
set -euo pipefail

name="${1:?usage: cargo-tool.sh NAME VERSION}"
version="${2:?usage: cargo-tool.sh NAME VERSION}"
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
folder="$root/.cache/tools/$name-$version"

if [ ! -x "$folder/bin/$name" ]; then
  echo "building $name $version, once: a minute or two" >&2
  rm -rf "$folder.part"
  # It runs for a second, so what counts is how long it takes to build. Its own folder: cargo would
  # else build it beside Weft, with a lock on what others build.
  env -u CARGO_TARGET_DIR -u RUSTFLAGS CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=0 \
    cargo install --quiet --locked --debug --no-track --root "$folder.part" --version "=$version" "$name" >&2
  rm -rf "$folder"
  mv "$folder.part" "$folder"
fi
printf '%s\n' "$folder/bin/$name"
