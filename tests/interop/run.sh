#!/usr/bin/env bash
# Runs suites and programs of others against the sidecar, in network namespaces: make interop
#
# Results are in target/interop. Nothing is left running, and a cluster is not needed.
#
#   PARTS="h2spec grpc"   these parts only: h2spec grpc smuggling websocket
set -euo pipefail
# shellcheck source=tests/cluster/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../cluster/lib.sh"

: "${WEFT_BIN_DIR:?run this as make interop}"
read -ra parts <<<"${PARTS:-}"
began=$SECONDS
cd "$ROOT"
take_lock interop
tests/prerequisites.sh lab interop
"$HERE/build.sh" interop
cargo build --profile demo -p weft-proxy -p weft-init -p weft-tests -p weft-interop --bins
status=0
"$WEFT_BIN_DIR/weft-interop" run --programs "$(tools ../interop/programs)" "${parts[@]}" || status=$?
say "interop: $((SECONDS - began)) s; results: target/interop"
exit "$status"
