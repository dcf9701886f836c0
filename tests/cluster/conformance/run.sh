#!/usr/bin/env bash
# Runs the Gateway API's official conformance suite against Weft: make conformance
#
#   target/conformance/report.yaml   the official report
#   target/conformance/suite.log     all that the suite said
# then once more with the features that the suite infers from the XMesh: inferred.yaml, inferred.log.
# A run with one of the settings below is one run, and writes draft.yaml and draft.log.
#
# For development:
#   RUN_TEST=MeshPorts    one test only
#   MAX_TIME=4            seconds that the suite waits for the right answer; its default is 30, and a
#                         published report is made with that
#   FEATURES=inferred     asks for what the XMesh says is supported, instead of the list here
#   KEEP=1                leaves cluster and chart up; otherwise what was started is ended
#   WITHOUT_MESH=1        without Weft: shows what the suite lets through when there is no mesh at all
set -euo pipefail
# shellcheck source=tests/cluster/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

# Every feature of a mesh, and those of HTTPRoute for which there are tests with a mesh.
features=(
  Mesh
  MeshClusterIPMatching
  MeshConsumerRoute
  MeshHTTPRouteBackendRequestHeaderModification
  MeshHTTPRouteNamedRouteRule
  MeshHTTPRouteQueryParamMatching
  MeshHTTPRouteRedirectPath
  MeshHTTPRouteRedirectPort
  MeshHTTPRouteRewritePath
  MeshHTTPRouteSchemeRedirect
  HTTPRoute
  GRPCRoute
  HTTPRoute303RedirectStatusCode
  HTTPRoute307RedirectStatusCode
  HTTPRoute308RedirectStatusCode
  HTTPRouteParentRefPort
  HTTPRouteResponseHeaderModification
)
tests=23 # so many tests ask for no more than these; fewer means that some were lost on the way

out="$ROOT/target/conformance"
list="$(IFS=,; echo "${features[*]}")"


mkdir -p "$out"
suite=
# shellcheck disable=SC2317 # called by the trap
finish() {
  [ -z "$suite" ] || kill "$suite" 2>/dev/null || true
  leave_as_found "$out"
}
trap finish EXIT
trap 'exit 130' INT TERM

began=$SECONDS
remember_state
"$HERE/up.sh"
"$HERE/packages.sh"
"$HERE/build.sh" conformance
"$ROOT/tests/api/list.sh" --check
if [ -z "${WITHOUT_MESH:-}" ]; then
  if ! foreign_cluster; then
    "$HERE/images.sh" weft
    "$HERE/images.sh" import
  fi
  "$HERE/helm.sh" install
fi
say "ready after $((SECONDS - began)) s"

# What a run that was cut off left: its pods may hold a sidecar of an older build.
kubectl delete namespace --selector gateway-conformance --ignore-not-found --wait >&2

# run NAME LOG FEATURES: one run of the suite; its report becomes NAME.yaml.
run() {
  local report="$out/$1.yaml" log="$out/$2.log" wanted="$3" began=$SECONDS status=0
  local flags=(
    "-conformance-profiles=MESH-HTTP,MESH-GRPC"
    -namespace-labels=weft.mesh/inject=enabled
    -report-output="$report"
    -organization=weft-mesh -project=weft -url=https://github.com/weft-mesh/weft
    -version="$(git -C "$ROOT" describe --tags --always --dirty 2>/dev/null || echo dev)"
    -contact=https://github.com/weft-mesh/weft/issues
  )
  if [ "$wanted" = inferred ]; then
    wait_until 60 "the XMesh" kubectl wait xmesh/weft --for=condition=Accepted --timeout=10s ||
      die "the controller has not written the XMesh." "tests/cluster/kubectl get xmesh weft -o yaml"
    # The suite infers only when nothing else names features, a GatewayClass (there is a default) among it.
    flags+=(-mesh-name=weft -gateway-class=)
  else
    flags+=("-supported-features=$wanted")
  fi
  if [ -n "${RUN_TEST:-}" ]; then flags+=("-run-test=$RUN_TEST") tests=1; fi
  # Other forms than whole seconds the suite ignores without a word.
  [ -z "${MAX_TIME:-}" ] || flags+=("-timeout-config-overrides=MaxTimeToConsistency:$MAX_TIME")

  rm -f "$report" "$log"
  on_network "$(tools conformance)/suite" -test.v -test.timeout=60m "${flags[@]}" >"$log" 2>&1 &
  suite=$!
  "$HERE/conformance/summary.py" --follow "$suite" "$log" "$tests" ${RUN_TEST:+"$RUN_TEST"} || status=$?
  wait "$suite" || status=$?
  suite=
  if [ -e "$report" ]; then
    # Of each profile its name and its summary, which may go on in further lines.
    awk '/^[^ ]/ { on = 0 } /^  name:/ || on { print } /^  summary:/ { on = 1; print }' "$report"
  fi
  say "suite: $((SECONDS - began)) s; report: ${report#"$ROOT"/}, log: ${log#"$ROOT"/}"
  return "$status"
}

if [ -n "${RUN_TEST:-}${MAX_TIME:-}${FEATURES:-}${WITHOUT_MESH:-}" ]; then
  run draft draft "${FEATURES:-$list}"
else
  run report suite "$list"
  say "once more, with the features that the XMesh names"
  run inferred inferred inferred
fi
