#!/usr/bin/env bash
# Runs Weft's end-to-end tests in a real Kubernetes, through the Helm chart: make e2e
#
# Cluster and chart are left as they were found: what was not there is brought up, and taken down at
# the end. Weft is installed anew by some of the tests, so this is not for a cluster that others use.
#
#   SUITES="status chart"   these suites only
#   TESTS=grant             tests with this in their name only
#   KEEP=1                  a test that fails leaves its namespaces, the run its cluster and the chart
#   How much of it, where the default keeps the run short:
#     WEFT_E2E_ROTATIONS=20           how often the webhook's certificate rotates (5)
#     WEFT_E2E_RESTARTS=20            how often backends and callers restart (2)
#     WEFT_E2E_SWAPS=1000             how often an address changes hands (100)
#     WEFT_E2E_IDLE_REQUESTS=100000   how many requests meet connections that close while idle (10000)
#   WEFT_TEST_IMAGE=…       with KUBECONFIG: where that cluster finds the image of tests/e2e/Dockerfile
#   HELM_ARGS=…             with KUBECONFIG: where it finds Weft's images (see tests/cluster/helm.sh)
set -euo pipefail
# shellcheck source=tests/cluster/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../cluster/lib.sh"

# Suites whose tests run side by side.
together=(status admission pods scenarios traffic)
# Suites that disturb the whole cluster: one test at a time, after the others.
alone=(faults traffic-alone chart)
# Tests mostly wait for pods; more at a time would make them wait for each other.
threads=6

# suites: the names of the test targets in Cargo.toml
suites() { awk '/^\[/ { test = $0 == "[[test]]" } test && $1 == "name" { gsub(/"/, "", $3); print $3 }' "$ROOT/tests/e2e/Cargo.toml"; }

[ -z "${KEEP:-}" ] || export WEFT_E2E_KEEP=1
# Reports of pods without a sidecar are waited for.
export HELM_ARGS="${HELM_ARGS:-} --set controller.podReportSeconds=5"

prepare() {
  if foreign_cluster; then
    [ -n "${WEFT_TEST_IMAGE:-}" ] || die "KUBECONFIG is set, and WEFT_TEST_IMAGE is not." \
      "docker build -f tests/e2e/Dockerfile -t REGISTRY/weft-test:dev . && docker push REGISTRY/weft-test:dev" \
      "WEFT_TEST_IMAGE=REGISTRY/weft-test:dev HELM_ARGS='--set image.registry=REGISTRY …' make e2e"
  else
    "$HERE/images.sh" weft
    "$HERE/images.sh" test
    "$HERE/images.sh" import
  fi
  "$ROOT/tests/prerequisites.sh" prometheus
  # Compiled out here: on the cluster's network there is nothing to fetch a crate from.
  cargo test --manifest-path "$ROOT/Cargo.toml" --package weft-e2e --no-run "${targets[@]}"
  # What a run that was cut off left.
  delete_namespaces
  "$HERE/helm.sh" install
}

# run_suite NAME: shows what it prints, and keeps it; the last line of it goes into the summary
run_suite() {
  local name="$1" arguments=(--test-threads "$threads") status=0 log="$out/$1.log" line
  [[ " ${alone[*]} " != *" $name "* ]] || arguments=(--test-threads 1)
  say "--- $name"
  on_network cargo test --offline --manifest-path "$ROOT/Cargo.toml" --package weft-e2e --test "$name" -- \
    "${arguments[@]}" ${TESTS:+"$TESTS"} 2>&1 | tee "$log" || status=$?
  line="$(grep '^test result' "$log" || echo 'test result: it did not come to one')"
  summary+="$(printf '  %-13s %s' "$name" "${line#test result: }")"$'\n'
  return "$status"
}

# closing: a line for each suite, and a table of what was measured
closing() {
  say ""
  printf '%s' "$summary" >&2
  say ""
  [ ! -e "$figures" ] || table "$figures" | tee "$out/figures.txt" >&2
}

# table FILE: lines of three fields between tabs, in columns
table() {
  awk -F '\t' '
    { for (i = 1; i <= NF; i++) { cell[NR, i] = $i; if (length($i) > wide[i]) wide[i] = length($i) } }
    END {
      form = "  %-" wide[1] "s   %-" wide[2] "s   %s\n"
      for (row = 1; row <= NR; row++) printf form, cell[row, 1], cell[row, 2], cell[row, 3]
    }' <(printf 'measured\tfound\tasked\n') "$1"
}

# finish: as it was before, but for the logs
# shellcheck disable=SC2317 # called by the trap
finish() {
  # Deleted by the tests; this waits for the end of it.
  [ -z "$ready" ] || [ -n "${KEEP:-}" ] || delete_namespaces
  leave_as_found "$out"
}

delete_namespaces() { kubectl delete namespace --selector weft.mesh/e2e --ignore-not-found --wait >/dev/null; }

main() {
  for name in $(suites); do
    [[ " ${together[*]} ${alone[*]} " == *" $name "* ]] || die "suite $name is not in run.sh."
  done
  read -ra chosen <<<"${SUITES:-${together[*]} ${alone[*]}}"
  targets=()
  for name in "${chosen[@]}"; do targets+=(--test "$name"); done

  take_lock e2e
  began=$SECONDS
  out="$ROOT/target/e2e"
  ready="" summary=""
  mkdir -p "$out"
  # What the tests have for people to read, as src/out.rs writes it.
  export WEFT_E2E_OUT="$out"
  figures="$out/figures.tsv"
  rm -f "$figures" "$out/seconds.tsv"
  remember_state
  trap finish EXIT
  trap 'exit 130' INT TERM
  "$HERE/up.sh"
  "$HERE/packages.sh"
  "$HERE/build.sh" helm
  prepare
  ready=yes
  say "ready after $((SECONDS - began)) s"
  failed=0
  for name in "${chosen[@]}"; do run_suite "$name" || failed=1; done
  closing
  say "end-to-end: $((SECONDS - began)) s; logs, figures and samples of status: ${out#"$ROOT"/}"
  exit "$failed"
}

main
