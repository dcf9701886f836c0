#!/usr/bin/env bash
# Says what runs: make cluster-status
set -euo pipefail
# shellcheck source=tests/cluster/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

if foreign_cluster; then
  say "KUBECONFIG is set: this is about that cluster."
elif ! holder_pid >/dev/null; then
  say "no cluster is running ($NAME)"
  [ ! -e "$STATE" ] || say "a run was cut off; make cluster-up clears away what it left"
  exit 1
else
  printf 'cluster %s, components:\n' "$NAME"
  for file in "$STATE"/pid/*; do
    component="$(basename "$file")"
    state="running"
    inside test -d "/proc/$(cat "$file")" || state="NOT RUNNING, see $STATE/log/$component.log"
    printf '  %-20s %s\n' "$component" "$state"
  done
  printf 'versions: Kubernetes %s, etcd %s, CoreDNS %s, Gateway API %s, containerd %s\n\n' \
    "$(version_of kubernetes k8s.io/kubernetes)" "$(version_of kubernetes go.etcd.io/etcd/server/v3)" \
    "$(version_of coredns github.com/coredns/coredns)" "$(version_of conformance sigs.k8s.io/gateway-api)" \
    "$(containerd --version | awk '{ print $3 }')"
fi
kubectl get nodes -o wide
echo
kubectl get pods -A -o wide
