#!/usr/bin/env bash
# Writes tests/api/VERSION.json, the condensed list of the Gateway API's fields, from the API's own
# CRDs: make api-list
#
#   list.sh           for the release that tests/cluster/conformance/go.mod asks for
#   list.sh --check   fails, and shows the difference, where the list in the tree is another one
#
# For the next release: `go get` it in tests/cluster/conformance, run this, remove the older list and
# name the new one in src/lib.rs. The tests then say which fields, values and MUSTs are new or gone.
set -euo pipefail
# shellcheck source=tests/cluster/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../cluster/lib.sh"

"$HERE/build.sh" api
version="$(version_of conformance sigs.k8s.io/gateway-api)"
list="$ROOT/tests/api/$version.json"
made="$(mktemp)"
trap 'rm -f "$made"' EXIT
cargo run --quiet --manifest-path "$ROOT/Cargo.toml" --package weft-api -- "$(tools conformance)/api" >"$made"
case "${1:-}" in
  --check)
    diff -u "$list" "$made" >&2 ||
      die "${list#"$ROOT"/} is not what the CRDs of $version give." "tests/api/list.sh"
    ;;
  '') cat "$made" >"$list" ;;
  *) die "list.sh: what is $1?" "list.sh [--check]" ;;
esac
