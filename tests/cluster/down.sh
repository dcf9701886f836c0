#!/usr/bin/env bash
# Takes the cluster down: make cluster-down
# With --leftovers it clears away, without a word if there is nothing, what a cut-off run left.
set -euo pipefail
# shellcheck source=tests/cluster/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

quiet=
[ "${1:-}" != --leftovers ] || quiet=yes

if [ -z "$quiet" ]; then
  if foreign_cluster; then
    say "KUBECONFIG is set: that cluster is yours, and is left alone."
    exit 0
  fi
  need_root "taking the cluster down" cluster-down
  take_lock cluster
fi

# Whether no process is left in a process namespace; the holder itself goes first.
empty() {
  local link
  for link in /proc/[0-9]*/ns/pid; do
    [ "$(readlink "$link" 2>/dev/null || true)" != "$1" ] || return 1
  done
}
groups() { find /sys/fs/cgroup -maxdepth 2 -type d -name "$NAME"; }
# The folder may also have been mounted below by other means than ours.
mounts() { awk -v below="$STATE/" 'index($5, below) == 1 { print $5 }' /proc/self/mountinfo | sort -r; }

was=
if holder="$(holder_pid)"; then
  was=yes
  # Every process of the cluster, pods included, lives in the holder's process namespace: the kernel
  # ends them all with it, and drops the mounts and the network when the last one is gone.
  namespace="$(readlink "/proc/$holder/ns/pid")"
  kill -KILL "$holder"
  wait_until 60 "the cluster's processes to end" empty "$namespace" ||
    die "some processes of the cluster do not end." "ps -eo pid,pidns,args shows them, under ${namespace//[^0-9]/}"
fi
while read -r mount; do
  [ -z "$mount" ] || umount --lazy "$mount"
done <<<"$(mounts)"
# A group can be removed once it is empty, its children first.
remove_groups() {
  find "$@" -depth -type d -exec rmdir {} + 2>/dev/null
  [ -z "$(groups)" ]
}
mapfile -t left < <(groups)
if [ ${#left[@]} -gt 0 ]; then
  wait_until 20 "the cgroups to be empty" remove_groups "${left[@]}" ||
    die "cgroups cannot be removed: ${left[*]}" "look at their cgroup.procs"
fi
if [ -e "$STATE" ]; then
  was=yes
  rm -rf --one-file-system "$STATE"
fi

[ -z "$quiet" ] || exit 0
if [ -n "$was" ]; then
  # Believe it only when it has been looked at.
  if holder_pid >/dev/null || [ -n "$(mounts)$(groups)" ] || [ -e "$STATE" ]; then
    die "something of the cluster is still there."
  fi
  say "the cluster is down ($NAME): no process, mount, cgroup or network of it is left"
else
  say "no cluster is running ($NAME)"
fi
