#!/usr/bin/env bash
# run.sh PROGRAMS SIDECAR OUT [--quick]: runs weft-scale with the cluster's own etcd and kube-apiserver, which
# are built if they are not there, and the chart's RBAC.
set -euo pipefail
# shellcheck source=tests/cluster/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../cluster/lib.sh"

programs="$1" sidecar="$2" out="$3"
shift 3
"$HERE/build.sh" scale
mkdir -p "$out"
export HELM_CACHE_HOME="$CACHE/helm/cache" HELM_CONFIG_HOME="$CACHE/helm/config" HELM_DATA_HOME="$CACHE/helm/data"
"$(tools helm)/helm" template weft "$ROOT/charts/weft" --namespace weft-system \
  --show-only templates/proxy-rbac.yaml >"$out/rbac.yaml"
exec "$programs/weft-scale" --programs "$programs" --sidecar "$sidecar" --kubernetes "$(tools kubernetes)" \
  --crds "$(tools conformance)/crds" --rbac "$out/rbac.yaml" --out "$out" "$@"
