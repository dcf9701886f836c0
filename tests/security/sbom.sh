#!/usr/bin/env bash
# A software bill of materials for each program, and so for each image: make sbom
#
# target/sbom/PROGRAM.cdx.json, in CycloneDX 1.5. Written from what cargo says it builds the program of.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
folder=target/sbom
mkdir -p "$folder"
# The last commit's time: the same commit gives the same file.
time="$(TZ=UTC git log -1 --format=%cd --date=format-local:%Y-%m-%dT%H:%M:%SZ 2>/dev/null || date -u +%Y-%m-%dT%H:%M:%SZ)"
for program in weft-proxy weft-init weft-injector weft-controller; do
  cargo run --quiet --locked --package weft-security --bin weft-sbom -- "$program" "$time" "$folder/$program.cdx.json"
done
