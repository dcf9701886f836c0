#!/usr/bin/env bash
# Starts and stops the cluster's components, one process each: component.sh start|stop NAME...
# Runs inside the cluster's namespaces; from outside: tests/cluster/enter --node …/component.sh …
set -euo pipefail
# shellcheck source=tests/cluster/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

# both V4 V6: "V4,V6" with two address families, else V4
both() { if [ -e "$STATE/dual-stack" ]; then echo "$1,$2"; else echo "$1"; fi; }

# start NAME PROGRAM ARGS...
start() {
  local name="$1"
  shift
  (
    # A component outlives the run that started it, and must not hold on to its locks and pipes.
    for descriptor in "/proc/$BASHPID/fd"/*; do
      descriptor="${descriptor##*/}"
      [ "$descriptor" -le 2 ] || eval "exec $descriptor>&-"
    done
    exec setsid nohup "$@" >>"$STATE/log/$name.log" 2>&1 </dev/null
  ) &
  echo $! >"$STATE/pid/$name"
}

# The components, in the order in which they are started.
start_etcd() {
  start etcd "$kubernetes/etcd" --data-dir "$STATE/etcd" --unsafe-no-fsync \
    --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
    --listen-peer-urls http://127.0.0.1:2380
}

start_apiserver() {
  start apiserver "$kubernetes/kube-apiserver" --etcd-servers=http://127.0.0.1:2379 \
    --bind-address="$NODE4" --advertise-address="$NODE4" --secure-port=6443 \
    --service-cluster-ip-range="$(both "$SERVICES4" "$SERVICES6")" \
    --client-ca-file="$pki/ca.crt" --tls-cert-file="$pki/apiserver.crt" --tls-private-key-file="$pki/apiserver.key" \
    --service-account-issuer=https://kubernetes.default.svc \
    --service-account-key-file="$pki/service-accounts.pub" \
    --service-account-signing-key-file="$pki/service-accounts.key" \
    --kubelet-client-certificate="$pki/admin.crt" --kubelet-client-key="$pki/admin.key" \
    --kubelet-certificate-authority="$pki/ca.crt" --kubelet-preferred-address-types=InternalIP \
    --authorization-mode=Node,RBAC --allow-privileged=true
}

start_controller-manager() {
  start controller-manager "$kubernetes/kube-controller-manager" --kubeconfig="$STATE/kubeconfig" \
    --service-account-private-key-file="$pki/service-accounts.key" --use-service-account-credentials=true \
    --root-ca-file="$pki/ca.crt" --cluster-signing-cert-file="$pki/ca.crt" --cluster-signing-key-file="$pki/ca.key" \
    --leader-elect=false
}

start_scheduler() {
  start scheduler "$kubernetes/kube-scheduler" --kubeconfig="$STATE/kubeconfig" --leader-elect=false
}

start_containerd() {
  start containerd containerd --config "$STATE/config/containerd.toml"
}

start_kubelet() {
  start kubelet "$kubernetes/kubelet" --config="$STATE/config/kubelet.yaml" --kubeconfig="$STATE/kubeconfig" \
    --hostname-override=node --node-ip="$(both "$NODE4" "$NODE6")"
}

start_kube-proxy() {
  start kube-proxy "$kubernetes/kube-proxy" --config="$STATE/config/kube-proxy.yaml"
}

start_coredns() {
  start coredns "$(tools coredns)/coredns" -conf "$STATE/config/Corefile"
}

# Ends one component; what it started itself (containers, say) goes on.
stop() {
  local pid
  pid="$(cat "$STATE/pid/$1" 2>/dev/null)" || return 0
  kill "$pid" 2>/dev/null || return 0
  # An API server that is asked to end waits a minute for its watchers.
  wait_until 3 "$1" not_running "$pid" 2>/dev/null || kill -KILL "$pid"
  wait_until 10 "$1 to end" not_running "$pid"
}

not_running() { ! kill -0 "$1" 2>/dev/null; }

[ "$(cat /proc/1/comm)" = "$NAME" ] || die "component.sh runs inside the cluster only." "tests/cluster/enter --node $0 $*"
pki="$STATE/pki"
kubernetes="$(tools kubernetes)"
mkdir -p "$STATE/log" "$STATE/pid"

action="${1:?usage: component.sh start|stop NAME...}"
shift
for component in "$@"; do
  case "$action" in
    start) "start_$component" ;;
    stop) stop "$component" ;;
    *) die "component.sh: start or stop, not $action" ;;
  esac
done
