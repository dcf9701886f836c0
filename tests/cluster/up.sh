#!/usr/bin/env bash
# Brings up a Kubernetes cluster of one node on this machine: make cluster-up
#
# It is made of the real components, as ordinary processes in namespaces of their own. Their network
# has no uplink: nothing reaches the cluster from elsewhere, and nothing leaves it. A second call
# finds the cluster running and does nothing; what a run that was cut off left behind goes first.
set -euo pipefail
# shellcheck source=tests/cluster/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

running() { [ -e "$STATE/ready" ] && holder_pid >/dev/null && kubectl get --raw /readyz >/dev/null 2>&1; }

hint() {
  say "
  tests/cluster/kubectl get pods -A          kubectl in the cluster
  tests/cluster/enter curl http://10.96.x.y  any command on the cluster's network
  make cluster-status | cluster-down
  KUBECONFIG is $STATE/kubeconfig (its address answers on the cluster's network only)"
}

# Two address families where the kernel can do NAT for both.
dual_stack() {
  [ "${IP_FAMILIES:-dual}" = dual ] && [ -d /proc/sys/net/ipv6 ] &&
    unshare --net ip6tables -t nat --list-rules >/dev/null 2>&1
}

make_namespaces() {
  cp "$(tools kubernetes)/pause" "$STATE/$NAME"
  # The holder becomes process 1 of the new process namespace. Its parent stays outside and would
  # take the holder with it if it were ended.
  setsid nohup unshare --net --mount --pid --fork --kill-child --mount-proc -- "$STATE/$NAME" \
    >/dev/null 2>&1 </dev/null 9>&- &
  wait_until 10 "the cluster's namespaces" holder_pid || die "no namespaces: is this root with CAP_SYS_ADMIN?"
  inside "$HERE/node/namespace.sh" || die "the cluster's namespaces could not be furnished (see above)."
}

# or_log COMPONENT WAIT...: a wait that, in vain, shows what the component had to say.
or_log() {
  local component="$1"
  shift
  "$@" && return
  say "the end of $STATE/log/$component.log:"
  tail -n 20 "$STATE/log/$component.log" >&2
  die "$component did not come up." "make cluster-down, then make cluster-up"
}

start() {
  inside "$HERE/node/component.sh" start etcd containerd apiserver
  # Images are imported while the API server opens its store.
  or_log containerd wait_until 60 containerd inside ctr version
  "$HERE/images.sh" import
  or_log apiserver wait_until 120 "the API server" kubectl get --raw /readyz
  inside "$HERE/node/component.sh" start controller-manager scheduler kubelet kube-proxy coredns
  kubectl apply --server-side -f "$HERE/node/dns.yaml" >/dev/null
  kubectl apply --server-side -k "$(tools conformance)/crds" >/dev/null
  or_log kubelet wait_until 60 "the node" kubectl wait --for=condition=Ready node/node --timeout=10s
  or_log coredns wait_until 60 CoreDNS on_network bash -c "</dev/tcp/$NODE4/53"
  # Pods cannot be made before this exists.
  or_log controller-manager wait_until 60 "the default ServiceAccount" kubectl get serviceaccount default
  or_log apiserver wait_until 60 "the Gateway API's kinds" kubectl wait --for=condition=Established crd --all --timeout=10s
}

if foreign_cluster; then
  say "KUBECONFIG is set: using that cluster, starting none."
  kubectl version
  exit 0
fi
need_root "a cluster"
take_lock cluster
if running; then
  say "the cluster is running already ($NAME)"
  hint
  exit 0
fi

"$HERE/packages.sh"
"$HERE/build.sh" cluster
"$HERE/images.sh" suite
"$HERE/down.sh" --leftovers

began=$SECONDS
mkdir -p "$STATE"
# A failure half-way leaves the processes and their logs to be looked at; the next run cleans up.
trap '[ -e "$STATE/ready" ] || say "the cluster did not come up; logs are in $STATE/log"' EXIT
families="IPv4 only (no IPv6 wanted, or this kernel has no NAT for it)"
if dual_stack; then
  touch "$STATE/dual-stack"
  families="IPv4 and IPv6"
fi
"$HERE/node/config.sh"
make_namespaces
start
touch "$STATE/ready"
say "the cluster is up after $((SECONDS - began)) s: Kubernetes $(version_of kubernetes k8s.io/kubernetes)," \
  "Gateway API $(version_of conformance sigs.k8s.io/gateway-api) (experimental channel)," \
  "$families"
hint
