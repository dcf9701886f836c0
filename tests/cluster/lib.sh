# shellcheck shell=bash
# What every script of this folder shares: paths, names, messages, and ways into the cluster.
# Sourced, never run.

HERE="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)"
ROOT="$(cd "$HERE/../.." && pwd -P)"
CACHE="$ROOT/.cache"
STATE="$CACHE/cluster" # everything of a running cluster; gone when it is down

# Two checkouts on one machine get two clusters.
NAME="weft-$(printf %s "$ROOT" | sha256sum | cut -c1-8)"

# The cluster's addresses. They exist in its own network namespace only, which has no uplink.
NODE4=192.168.66.1 NODE6=fd66::1
PODS4=10.244.0.0/16 PODS6=fd66:244::/64
SERVICES4=10.96.0.0/16 SERVICES6=fd66:96::/112
API4=10.96.0.1 # always the first of the range
DNS4=10.96.0.10
# shellcheck disable=SC2034 # used by the scripts that source this file
readonly NODE4 NODE6 PODS4 PODS6 SERVICES4 SERVICES6 API4 DNS4

say() { printf '%s\n' "$*" >&2; }

# die WHAT [WHAT TO DO]
die() {
  printf 'error: %s\n' "$1" >&2
  if [ $# -gt 1 ]; then printf '  -> %s\n' "${@:2}" >&2; fi
  exit 1
}

need_root() {
  [ "$(id -u)" = 0 ] || die "$1 needs root: it makes namespaces and runs containers." "sudo -E make ${2:-cluster-up}"
}

# The cluster that the user named, if any. Weft's own sets KUBECONFIG to its own file; that one does
# not count.
foreign_cluster() { [ -n "${KUBECONFIG:-}" ] && [ "$KUBECONFIG" != "$STATE/kubeconfig" ]; }

# One at a time: FD 9 stays locked until the script ends. Whoever starts a process that outlives the
# script closes it with 9>&-.
take_lock() {
  mkdir -p "$CACHE"
  exec 9>"$CACHE/$1.lock"
  flock --nonblock 9 && return
  say "waiting for another run of $1 in this checkout ..."
  flock 9
}

# wait_until SECONDS WHAT CMD...: polls until CMD succeeds.
wait_until() {
  local seconds="$1" what="$2" end=$((SECONDS + $1))
  shift 2
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$end" ] || {
      say "waited $seconds s for $what, in vain"
      return 1
    }
    sleep 0.1
  done
}

# A cluster lives in namespaces of its own (network, mounts, processes). Process 1 of them, the
# holder, is a program that only waits; when it dies the kernel kills every process of the cluster
# and drops its mounts. It is found by its executable, which is a copy under this checkout's folder,
# so a recycled process id cannot be mistaken for it.
holder_pid() {
  local exe
  for exe in /proc/[0-9]*/exe; do
    # After a copy over a running program the link reads "... (deleted)".
    case "$(readlink "$exe" 2>/dev/null || true)" in
      "$STATE/$NAME" | "$STATE/$NAME (deleted)")
        exe="${exe#/proc/}"
        printf '%s\n' "${exe%/exe}"
        return 0
        ;;
    esac
  done
  return 1
}

# inside CMD...: runs CMD in the cluster's network, mounts and processes, as on the node.
inside() {
  local pid
  pid="$(holder_pid)" || die "the cluster is not running." "make cluster-up"
  # Other mounts begin at /; the folder is the caller's all the same.
  # shellcheck disable=SC2016 # expanded in there
  nsenter --target "$pid" --net --mount --pid -- bash -c 'cd "$0" && exec "$@"' "$PWD" "$@"
}

# on_network CMD...: runs CMD with this machine's files and the cluster's network. With a cluster of
# the user's, CMD just runs.
on_network() {
  local pid
  if foreign_cluster; then
    "$@"
    return
  fi
  pid="$(holder_pid)" || die "the cluster is not running." "make cluster-up"
  KUBECONFIG="$STATE/kubeconfig" nsenter --target "$pid" --net -- "$@"
}

# tools NAME: the folder with what was built from tests/cluster/NAME (or ../ROOM/NAME). Its name holds a hash of all
# that went in, so nothing stale is ever used, and nothing is built again that is there.
GO_VERSION=1.27.3
tools() {
  local key
  key="$(cd "$HERE/$1" && { printf '%s\n' "$GO_VERSION" && cat go.mod go.sum ./*.go; } 2>/dev/null | sha256sum | cut -c1-12)"
  printf '%s\n' "$CACHE/tools/${1##*/}-$key"
}

# version_of NAME MODULE: the version of a Go module that tests/cluster/NAME/go.mod asks for.
version_of() {
  awk -v module="$2" '$1 == "require" { $0 = substr($0, 8) } $1 == module && $2 ~ /^v/ { print $2; exit }' "$HERE/$1/go.mod"
}

kubectl() {
  local program
  program="$(tools kubernetes)/kubectl"
  if [ ! -x "$program" ]; then
    program="$(type -P kubectl)" || die "there is no kubectl." "tests/cluster/build.sh cluster"
  fi
  on_network "$program" "$@"
}

# remember_state: notes whether the cluster and the chart were there before, for leave_as_found.
remember_state() {
  found_cluster=yes found_chart=
  foreign_cluster || holder_pid >/dev/null || found_cluster=
  [ -z "$found_cluster" ] || [ -z "$(kubectl get secrets --namespace weft-system --selector owner=helm,name=weft --output name 2>/dev/null)" ] ||
    found_chart=yes
}

# leave_as_found FOLDER: ends what was started since remember_state. What Weft's programs said is
# kept in FOLDER/weft-system.log. With KEEP=1 everything stays, to be looked at.
leave_as_found() {
  holder_pid >/dev/null || foreign_cluster || return 0
  kubectl logs --namespace weft-system --selector app.kubernetes.io/part-of=weft --prefix --tail=-1 >"$1/weft-system.log" 2>/dev/null || true
  [ -z "${KEEP:-}" ] || return 0
  if [ -z "$found_cluster" ]; then
    "$HERE/down.sh"
  elif [ -z "$found_chart" ]; then
    "$HERE/helm.sh" uninstall >&2
    foreign_cluster || kubectl delete namespace weft-system --ignore-not-found --wait >&2
  fi
}
