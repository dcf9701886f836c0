#!/usr/bin/env bash
# Installs Weft's chart from this checkout, or upgrades it:
# helm.sh install | uninstall | run ARGS... | template ARGS...
# (`template` prints the chart's objects, and needs no cluster.)
# In Weft's own cluster with the images of this checkout; in the user's cluster HELM_ARGS says where
# the images are: HELM_ARGS='--set image.registry=… --set image.tag=…'.
set -euo pipefail
# shellcheck source=tests/cluster/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

export HELM_CACHE_HOME="$CACHE/helm/cache" HELM_CONFIG_HOME="$CACHE/helm/config" HELM_DATA_HOME="$CACHE/helm/data"
helm() { on_network "$(tools helm)/helm" "$@"; }

# Whether a pod is admitted that asks for the sidecar; nothing is made.
admits() {
  kubectl --namespace default run weft --image weft.local/none --labels weft.mesh/inject=enabled --dry-run=server
}

install() {
  local args=()
  if ! foreign_cluster; then
    # The tag is always the same; the annotation makes pods of an older build go.
    local build
    build="$(cd "$CACHE/images" && printf '%s\n' weft-{controller,init,injector,proxy}-*.tar | sha256sum | cut -c1-12)"
    args=(--set image.registry=weft.local --set image.tag=dev
      --set-string "injector.podAnnotations.build=$build" --set-string "controller.podAnnotations.build=$build")
  fi
  # Helm's watcher stops watching once everything was ready, then looks again at what came last and
  # fails if that is a pod that was not, with minutes left. The older way asks until all is ready.
  # shellcheck disable=SC2086 # HELM_ARGS is a list of words
  helm upgrade --install weft "$ROOT/charts/weft" --namespace weft-system --create-namespace \
    --wait=legacy --timeout 3m "${args[@]}" ${HELM_ARGS:-} >"$CACHE/helm.log" 2>&1 &&
    # A new Service's address answers a moment after its pods are ready.
    wait_until 30 "the webhook's Service" admits && return
  tail -n 20 "$CACHE/helm.log" >&2
  kubectl --namespace weft-system get pods >&2 || true
  kubectl --namespace weft-system get events --field-selector type=Warning --sort-by .lastTimestamp | tail -n 5 >&2 || true
  die "the chart could not be installed." "tests/cluster/kubectl -n weft-system logs deployment/weft-injector"
}

case "${1:-}" in
  install) install ;;
  uninstall) helm uninstall weft --namespace weft-system --wait --ignore-not-found ;;
  run) shift && helm "$@" ;;
  template) shift && "$(tools helm)/helm" template weft "$ROOT/charts/weft" --namespace weft-system "$@" ;;
  *) die "helm.sh: what?" "helm.sh install | uninstall | run ARGS... | template ARGS..." ;;
esac
